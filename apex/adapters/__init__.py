"""Adapters: services whose records are in a store, such as a database or memory."""

from apex.adapters.aggregates import Aggregate
from apex.adapters.base import MOST_RESTORED, RESTORED, Adapter
from apex.adapters.companion import Companion
from apex.adapters.cursors import Selection
from apex.adapters.memory import MemoryService
from apex.adapters.options import AdapterOptions

__all__ = [
    "MOST_RESTORED",
    "RESTORED",
    "Adapter",
    "AdapterOptions",
    "Aggregate",
    "Companion",
    "MemoryService",
    "Selection",
]
