"""Tests of the app over HTTP, with a new database for each test."""
