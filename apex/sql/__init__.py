"""SQL databases: the adapter, the database, and column types that mean the same on SQLite and PostgreSQL."""

from apex.sql.database import Database, database
from apex.sql.service import SQLService
from apex.sql.statements import Statement
from apex.sql.types.columns import Fixed, Json, Timestamp
from apex.sql.types.registry import ColumnType

__all__ = ["ColumnType", "Database", "Fixed", "Json", "SQLService", "Statement", "Timestamp", "database"]
