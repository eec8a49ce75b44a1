"""Adapters: services whose records lie in a store."""

from apex.adapters.base import MOST_RESTORED, RESTORED, Adapter, AdapterOptions, Companion
from apex.adapters.memory import MemoryService

__all__ = [
    "MOST_RESTORED",
    "RESTORED",
    "Adapter",
    "AdapterOptions",
    "Companion",
    "MemoryService",
]
