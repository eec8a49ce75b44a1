"""Feathers for Python: services, hooks and the transports that serve them.

A name is imported when it is first used. The command line, which loads this package, needs almost none of them.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import apex._moved  # noqa: F401 - it finds modules by their former names  # pyright: ignore[reportUnusedImport]
from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.adapters.memory import MemoryService
    from apex.app import Apex
    from apex.auth import AuthenticationService, JWTStrategy, LocalStrategy, authenticate
    from apex.config import load_config
    from apex.context import Context, Params
    from apex.hooks import Around, Hook, HookMap, Next
    from apex.realtime import Connection
    from apex.realtime.bus import bus
    from apex.schema.tables import TableSchema
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
    "TableSchema",
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

_import_name = lazy_names(
    __name__,
    {
        "adapters.memory": ["MemoryService"],
        "app": ["Apex"],
        "auth": ["AuthenticationService", "JWTStrategy", "LocalStrategy", "authenticate"],
        "config": ["load_config"],
        "context": ["Context", "Params"],
        "hooks": ["Around", "Hook", "HookMap", "Next"],
        "realtime": ["Connection"],
        "realtime.bus": ["bus"],
        "schema.tables": ["TableSchema"],
        "schema.validation": ["Schema", "validate_data", "validate_query"],
        "service": ["Service"],
        "sql.database": ["database"],
        "sql.service": ["SQLService"],
        "transports.batch": ["batch"],
        "transports.rest": ["rest"],
        "transports.socketio.transport": ["sockets"],
    },
)


def __getattr__(name: str) -> Any:
    return version("feathers-apex") if name == "__version__" else _import_name(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
