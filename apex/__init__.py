"""Feathers for Python: services, hooks and the transports that serve them.

A name is imported when it is first asked for: the command line, which loads this package, needs almost none.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.auth import AuthenticationService, JWTStrategy, LocalStrategy, authenticate
    from apex.batch import batch
    from apex.bus import bus
    from apex.channels import Connection
    from apex.config import load_config
    from apex.context import Context, Params
    from apex.hooks import Around, Hook, HookMap, Next
    from apex.memory import MemoryService
    from apex.rest import rest
    from apex.schema import Schema, validate_data, validate_query
    from apex.service import Service
    from apex.sockets import sockets
    from apex.sql.database import database
    from apex.sql.service import SQLService

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
    "Connection": "channels",
    "Context": "context",
    "Hook": "hooks",
    "HookMap": "hooks",
    "JWTStrategy": "auth",
    "LocalStrategy": "auth",
    "MemoryService": "memory",
    "Next": "hooks",
    "Params": "context",
    "SQLService": "sql.service",
    "Schema": "schema",
    "Service": "service",
    "authenticate": "auth",
    "batch": "batch",
    "bus": "bus",
    "database": "sql.database",
    "load_config": "config",
    "rest": "rest",
    "sockets": "sockets",
    "validate_data": "schema",
    "validate_query": "schema",
}


class _Package(ModuleType):
    """Some functions are called as the modules they are in: whoever imports ``apex.rest``, ``apex.rest`` is the
    function.
    """

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return version("apex")
        if name not in _MODULES:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _MODULES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
