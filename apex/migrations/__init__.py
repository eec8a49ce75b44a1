"""Migrations: versions of the database, and changes of tables that are in use."""
