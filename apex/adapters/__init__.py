"""Adapters: services whose records are in a store, such as a database or memory."""

from apex.adapters.base import MOST_RESTORED, RESTORED, Adapter, AdapterOptions, Companion
from apex.adapters.cursors import Selection
from apex.adapters.memory import MemoryService

__all__ = [
    "MOST_RESTORED",
    "RESTORED",
    "Adapter",
    "AdapterOptions",
    "Companion",
    "MemoryService",
    "Selection",
]
