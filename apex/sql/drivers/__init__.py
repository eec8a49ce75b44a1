"""Drivers, which run compiled statements on SQLite and PostgreSQL."""
