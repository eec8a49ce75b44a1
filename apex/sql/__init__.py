"""SQL databases: the adapter, the database it runs on, and column types that mean the same on both."""

from apex.sql.columns import Fixed, Json, Timestamp
from apex.sql.database import Database, database
from apex.sql.service import SQLService
from apex.sql.types import ColumnType

__all__ = ["ColumnType", "Database", "Fixed", "Json", "SQLService", "Timestamp", "database"]
