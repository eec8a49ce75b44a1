"""The log: one ordered record of what happened, written with the changes, and read by all who follow them."""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.log.app_log import Log
    from apex.log.plugin import log
    from apex.log.position import Position
    from apex.log.reading import Entry, Read
    from apex.log.service import EventsService
    from apex.log.table import log_table

__all__ = ["Entry", "EventsService", "Log", "Position", "Read", "log", "log_table"]

__getattr__ = lazy_names(
    __name__,
    {
        "app_log": ["Log"],
        "plugin": ["log"],
        "position": ["Position"],
        "reading": ["Entry", "Read"],
        "service": ["EventsService"],
        "table": ["log_table"],
    },
)
