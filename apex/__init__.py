"""Feathers for Python: services, hooks and the transports that serve them.

A name is imported when it is first asked for: the command line, which loads this package, needs almost none.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import apex._moved  # noqa: F401 - it finds modules by their former names

if TYPE_CHECKING:
    from apex.adapters.memory import MemoryService
    from apex.app import Apex
    from apex.auth import AuthenticationService, JWTStrategy, LocalStrategy, authenticate
    from apex.config import load_config
    from apex.context import Context, Params
    from apex.hooks import Around, Hook, HookMap, Next
    from apex.realtime import Connection
    from apex.realtime.bus import bus
    from apex.schema.validation import Schema, validate_data, validate_query
    from apex.service import Service
    from apex.sql.database import database
    from apex.sql.service import SQLService
    from apex.transports.batch import batch
    from apex.transports.rest import rest
    from apex.transports.socketio.transport import sockets

    __version__: str

__all__ = [
    "Apex",
    "Around",
    "AuthenticationService",
    "Connection",
    "Context",
    "Hook",
    "HookMap",
    "JWTStrategy",
    "LocalStrategy",
    "MemoryService",
    "Next",
    "Params",
    "SQLService",
    "Schema",
    "Service",
    "authenticate",
    "batch",
    "bus",
    "database",
    "load_config",
    "rest",
    "sockets",
    "validate_data",
    "validate_query",
]

_MODULES = {
    "Apex": "app",
    "Around": "hooks",
    "AuthenticationService": "auth",
    "Connection": "realtime",
    "Context": "context",
    "Hook": "hooks",
    "HookMap": "hooks",
    "JWTStrategy": "auth",
    "LocalStrategy": "auth",
    "MemoryService": "adapters.memory",
    "Next": "hooks",
    "Params": "context",
    "SQLService": "sql.service",
    "Schema": "schema.validation",
    "Service": "service",
    "authenticate": "auth",
    "batch": "transports.batch",
    "bus": "realtime.bus",
    "database": "sql.database",
    "load_config": "config",
    "rest": "transports.rest",
    "sockets": "transports.socketio.transport",
    "validate_data": "schema.validation",
    "validate_query": "schema.validation",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("apex")
    if name not in _MODULES:
        raise AttributeError(f"module 'apex' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"apex.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
