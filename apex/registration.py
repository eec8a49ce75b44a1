"""The registration of a service: its options, the checks of its methods, and the setup of a late one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from apex.context import Context
from apex.errors import FeathersError, Unavailable
from apex.hooks import LIFECYCLE, TYPES, Next
from apex.service import BodyLimit, BoundService, Options, Service, ServiceOptions
from apex.signatures import is_async, takes
from apex.types import STANDARD, taken_by

if TYPE_CHECKING:
    from apex.app import Apex

log: logging.Logger = logging.getLogger("apex")


PROTECTED = {*TYPES, *LIFECYCLE, "all", "service"} | {name for name in dir(BoundService) if name not in STANDARD}
"""The names that no custom method can have: those of hooks and of ``BoundService``."""


def options_of(path: str, service: Any, given: Mapping[str, Any]) -> Options:
    """Return the options of a service, with those that were ``given`` to ``use`` in place of its own.

    Raises ValueError for an object without methods, a protected name, or a method that does not exist, and TypeError
    for a class, or a method that cannot be called with its arguments.
    """
    if isinstance(service, type):
        raise TypeError(f"Service '{path}' is a class: register an object of it, as in {service.__name__}()")
    standard = tuple(method for method in STANDARD if callable(getattr(service, method, None)))
    methods = given.get("methods", _listed(service, "methods"))
    methods = standard if methods is None else tuple(methods)
    if not standard and not methods and not hasattr(service, "setup") and not hasattr(service, "teardown"):
        raise ValueError(f"Invalid service object passed for path `{path}`")
    for method in (*standard, *methods):
        _check_method(path, service, method)
    known = ServiceOptions.__annotations__
    if unknown := set(given) - set(known):
        raise TypeError(f"Unknown option '{unknown.pop()}' for service '{path}': there are {', '.join(known)}")
    events = tuple(given.get("events", _listed(service, "events") or ()))
    errors = given.get("errors", FeathersError.to_dict)
    if not callable(errors) or is_async(errors):
        raise TypeError(f"Option errors of service '{path}' must be a 'def' function of a FeathersError")
    limits = given.get("body_limits", _listed(service, "body_limits"))
    return Options(methods, events, _multi(path, service, given), errors, _body_limits(path, limits, methods))


def _multi(path: str, service: Any, given: Mapping[str, Any]) -> bool | None:
    """Return True if ``create`` takes a list, or None for an adapter, which decides itself."""
    if callable(getattr(service, "require_multi", None)):
        if "multi" in given:
            raise TypeError(f"'{path}' is an adapter: give multi to the adapter itself")
        return None
    multi = given.get("multi", _listed(service, "multi") or False)
    if isinstance(multi, bool):
        return multi
    if not isinstance(multi, str) and isinstance(multi, Collection) and set(multi) <= set(STANDARD):
        return "create" in multi
    raise TypeError(f"multi of service '{path}' must be True, False or a list such as ['create'], not {multi!r}")


def _body_limits(path: str, given: Any, methods: Sequence[str]) -> dict[str, BodyLimit]:
    if not isinstance(given or {}, Mapping):
        raise TypeError(f"body_limits of service '{path}' must map methods to bytes, not be {given!r}")
    limits = {}
    for method, limit in (given or {}).items():
        size, advice = limit if isinstance(limit, tuple) else (limit, "")
        if method not in methods:
            raise ValueError(f"body_limits of service '{path}' names '{method}', which is not among its methods")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise TypeError(f"The body limit of '{method}' of service '{path}' must be a number of bytes, not {size!r}")
        limits[method] = BodyLimit(size, advice)
    return limits


def _listed(service: Any, name: str) -> Any:
    """Return an attribute of a service, or None if it is a method."""
    listed: Any = getattr(service, name, None)
    return None if callable(listed) else listed


def _check_method(path: str, service: Any, method: str) -> None:
    if method in PROTECTED or method.startswith("_"):
        raise ValueError(f"'{method}' on service '{path}' is not allowed as a custom method name")
    function = getattr(service, method, None)
    if function is None:
        raise ValueError(f"Service '{path}' has no method '{method}'")
    if method not in STANDARD and _is_used(service, method):
        raise ValueError(f"'{method}' of service '{path}' is a name that its base class uses: rename the method")
    if not is_async(function):
        raise TypeError(f"Method '{method}' of service '{path}' must be declared with 'async def'")
    arguments = (*taken_by(method), "params")
    if not takes(function, len(arguments)):
        raise TypeError(f"Method '{method}' of service '{path}' must take ({', '.join(arguments)})")


def _is_used(service: Any, method: str) -> bool:
    """Return True if a base class uses the name for something else, as ``MemoryService`` uses ``store``."""
    owners = [owner for owner in (service, *type(service).__mro__) if owner is not Service]
    found = [vars(owner)[method] for owner in owners if method in getattr(owner, "__dict__", ())]
    return len(found) > 1 and not all(map(is_async, found))


class LateSetup:
    """An around hook of a service that is registered in a running app, and whose setup runs in a task.

    Calls wait for the setup, apart from its own ones, and are refused if it fails.
    """

    def __init__(self, app: Apex, path: str, bound: BoundService) -> None:
        self.app, self.path, self.bound = app, path, bound
        self.failure: Exception | None = None
        self.ended = app.callbacks.start(self._run())

    async def _run(self) -> None:
        _late_setup.set(self)
        try:
            await self.app._set_up_service(self.path, self.bound)
        except Exception as error:
            log.exception("The setup of '%s' failed: its calls are refused", self.path)
            self.failure = error
        else:
            self.bound._late_setup = None
            self.bound._steps.clear()

    async def __call__(self, context: Context, next: Next) -> None:
        if _late_setup.get() is not self:
            await self.ended
        if self.failure is not None:
            message = f"The service '{self.bound._path}' could not be set up"
            raise Unavailable(message, retry_after=None) from self.failure
        await next()


_late_setup: ContextVar[LateSetup | None] = ContextVar("late setup", default=None)
"""The setup whose task this is."""
