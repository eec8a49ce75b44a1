"""The log: one ordered record of what happened. It is written with the writes, and all that follows them reads it."""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.log.plugin import log
    from apex.log.position import Position
    from apex.log.reader import Log
    from apex.log.reading import Entry, Read
    from apex.log.service import EventsService
    from apex.log.table import log_table

__all__ = ["Entry", "EventsService", "Log", "Position", "Read", "log", "log_table"]

__getattr__ = lazy_names(
    __name__,
    {
        "plugin": ["log"],
        "position": ["Position"],
        "reader": ["Log"],
        "reading": ["Entry", "Read"],
        "service": ["EventsService"],
        "table": ["log_table"],
    },
)
