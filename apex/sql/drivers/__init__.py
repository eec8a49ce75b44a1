"""Drivers: what runs compiled statements on SQLite and PostgreSQL."""
