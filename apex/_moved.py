"""The former names of modules, functions and parameters, which work until version 0.3 with a DeprecationWarning."""

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

MOVED = {
    "accept": "schema.fast_path",
    "adapter": "adapters.base",
    "adapters.evaluation": "query.evaluation",
    "background": "callbacks",
    "batch": "transports.batch",
    "beside": "adapters.base",
    "brackets": "query.querystring",
    "bus": "realtime.bus",
    "channels": "realtime.channels",
    "checks": "cli.checks",
    "coerce": "query.coercion",
    "commit": "transaction",
    "cursors": "adapters.cursors",
    "ddl": "migrations.ddl",
    "emitter": "callbacks",
    "endpoint": "transports.socketio.endpoint",
    "engine": "transports.socketio.engine",
    "etags": "transports.http",
    "executor": "sql.drivers.executor",
    "exposition": "observability.prometheus",
    "extras": "_lazy",
    "fields": "schema.fields",
    "frames": "transports.socketio.connections",
    "fresh": "cache",
    "guard": "transports.http",
    "health": "observability.health",
    "items": "types",
    "keys": "auth.api_keys",
    "lanes": "sql.drivers.pipeline",
    "locks": "migrations.locks",
    "logs": "observability.logs",
    "memory": "adapters.memory",
    "metrics": "observability.metrics",
    "migrate": "migrations.migrate",
    "observe": "observability.observations",
    "pace": "sql.drivers.slow",
    "pages": "transports.pages",
    "passwords": "auth.passwords",
    "postgres": "sql.drivers.postgres",
    "preconditions": "transports.rest",
    "predicates": "query.language",
    "protocol": "server.protocol",
    "queues": "limits.queues",
    "querystring": "query.querystring",
    "rates": "limits.rates",
    "redaction": "observability.redaction",
    "redis": "realtime.redis",
    "reload": "server.workers",
    "request": "limits.clients",
    "resolvers": "common.resolvers",
    "rest": "transports.rest",
    "revisions": "migrations.revisions",
    "routes": "cli.listing",
    "scaffold": "cli.scaffold",
    "scope": "query.scope",
    "seals": "migrations.row_level_security",
    "sessions": "auth.sessions",
    "socketio": "transports.socketio.packets",
    "sockets": "transports.socketio.transport",
    "sparing": "_lazy",
    "sql.idempotency": "common.idempotency",
    "sql.trash": "common.trash",
    "sql.webhooks": "common.webhooks",
    "sqlite": "sql.drivers.sqlite",
    "tokens": "auth.jwt",
    "tracing": "observability.tracing",
    "wire": "transports.socketio.connections",
    "workers": "server.workers",
}


F = TypeVar("F", bound=Callable[..., Any])


def renamed(module: str, /, **names: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module that finds its names by their former ones, ``former="present"``."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        warnings.warn(f"{module}.{name} is {names[name]} now", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], names[name])

    return find


def renamed_parameters(**names: str) -> Callable[[F], F]:
    """Return a decorator that accepts parameters by their former names, ``former="present"``.

    The present name may begin with ``not ``, if the parameter says the opposite of the former one.
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for former in names.keys() & kwargs.keys():
                name, value = names[former].removeprefix("not "), kwargs.pop(former)
                warnings.warn(f"The parameter '{former}' is '{name}' now", DeprecationWarning, stacklevel=2)
                kwargs[name] = value if name == names[former] else not value
            return function(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


class _Module(ModuleType):
    """A former module. Importing ``apex.rest`` binds ``apex.rest``, which is a function too: the module calls it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.startswith("apex.") and name.removeprefix("apex.") in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        new = f"apex.{MOVED[name.removeprefix('apex.')]}"
        target = import_module(new)
        # Only these two modules are public themselves. The packages of all others have their public names.
        package = new if new in ("apex.query.coercion", "apex.query.querystring") else ".".join(new.split(".")[:2])
        hint = "" if package == new else f": import its public names from {package}"
        warnings.warn(f"{name} is {new} now{hint}", DeprecationWarning, stacklevel=2)
        module.__dict__.update({key: value for key, value in vars(target).items() if key[:2] != "__"})
        # Names that were changed as well are found by the module itself.
        module.__dict__["__getattr__"] = partial(getattr, target)


sys.meta_path.append(_Finder())
