"""The log: one ordered record of what happened, written with the writes. Everything that follows them reads it."""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.log.log_ import Log
    from apex.log.plugin import log
    from apex.log.table import log_table

__all__ = ["Log", "log", "log_table"]

__getattr__ = lazy_names(__name__, {"log_": ["Log"], "plugin": ["log"], "table": ["log_table"]})
