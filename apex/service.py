"""Services: the base class, the options, and the registered service that callers use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypedDict, overload

from typing_extensions import TypeVar

from apex.callbacks import is_async, takes
from apex.context import UNSET, AroundMethod, Context, Params
from apex.emitter import Emitter, Listener, Pending
from apex.encoding import RawJSON
from apex.errors import BadRequest, FeathersError, MethodNotAllowed, Unavailable
from apex.events import AnyPublisher, Publishers, message_of
from apex.hooks import LIFECYCLE, TYPES, AnyHooks, HookStore, Next, Step, Steps, blame, steps_of_call
from apex.query.language import suggestion
from apex.realtime.turns import Announcement, Turn
from apex.transaction import after_commit
from apex.types import STANDARD, Id, taken_by

if TYPE_CHECKING:
    from apex.app import Apex

__all__ = ["BodyLimit", "BodyLimits", "BoundService", "Call", "Service", "ServiceOptions"]

Record = TypeVar("Record", default=Any)
"""The type of the records of a service, such as a TypedDict."""

Found = TypeVar("Found", default=Any)
"""The type of the result of ``find``, such as ``Page[Message]``."""

EVENTS: Mapping[str, str] = {"create": "created", "update": "updated", "patch": "patched", "remove": "removed"}


class BodyLimit(NamedTuple):
    """The number of bytes that the body of a method's request may have, and the advice for a caller with more."""

    size: int
    advice: str = ""


BodyLimits = Mapping[str, int | BodyLimit]


class Service:
    """The base of services. It only declares their options: any object with the methods may be a service.

    ::

        class Clock(Service):
            async def find(self, params): return {"now": datetime.now(UTC)}

    ``methods`` lists the methods for callers from outside. If it is None, these are the standard methods of the object.
    ``events`` lists its custom events. ``multi`` is True if ``create`` takes a list of records. ``body_limits`` maps
    methods to the bytes that their bodies may have, if these are more than usual.
    """

    methods: Sequence[str] | None = None
    events: Sequence[str] = ()
    multi: bool | Sequence[str] = False
    body_limits: BodyLimits = MappingProxyType({})

    def _outgoing(self, method: str) -> Callable[..., Awaitable[Any]] | None:
        """Return the method that the framework calls in place of this one (see ``Adapter``), or None."""
        return None

    def _registered(self, app: Apex, path: str) -> None:
        """Raise TypeError if the service cannot work in the app. Called before the service gets its path."""


class ServiceOptions(TypedDict, total=False):
    """The options that ``use`` takes by name."""

    methods: Sequence[str]
    events: Sequence[str]
    multi: bool | Sequence[str]
    errors: Callable[[FeathersError], Any]
    body_limits: BodyLimits


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a registered service. ``errors`` returns the body of a REST response for an error.

    ``multi`` is None for adapters, which decide with each call if it may take many records.
    """

    methods: tuple[str, ...]
    events: tuple[str, ...] = ()
    multi: bool | None = False
    errors: Callable[[FeathersError], Any] = FeathersError.to_dict
    body_limits: Mapping[str, BodyLimit] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """A call of a service's method, as a transport builds it for ``app.call``.

    ``around_method`` is a function that runs the method, or raises an error in place of it.
    """

    service: BoundService
    method: str
    id: Id | None = None
    data: Any = None
    params: Params = field(default_factory=Params)
    around_method: AroundMethod | None = None


class BoundService(Emitter, Generic[Record, Found]):
    """A registered service, whose methods run with all hooks. ``service`` is the object as it was written.

    The type of its records and that of what ``find`` returns may be declared::

        messages: BoundService[Message, Page[Message]] = app.service("messages")

    All other names begin with an underscore, so that custom methods may have any name.
    """

    def __init__(self, app: Apex, path: str, service: Any, options: Options) -> None:
        super().__init__(app.callbacks)
        self._app, self._path, self._options = app, path, options
        self.service: Any = service
        standard = [method for method in STANDARD if callable(getattr(service, method, None))]
        self._hookable = tuple(dict.fromkeys([*standard, *options.methods]))
        # A service without methods counts as well: it answers every verb with 405 itself.
        self._has_records = not options.methods or not {"get", "update", "patch"}.isdisjoint(options.methods)
        self._events = frozenset((*EVENTS.values(), *options.events))
        self._publishers = Publishers()
        self._store = HookStore(path)
        self._steps: dict[str, Steps] = _StepsByMethod(self)
        self._opening: Awaitable[None] | None = None
        self._failure: Exception | None = None

    def hooks(self, hooks: AnyHooks) -> BoundService[Record, Found]:
        """Register more hooks, at any time. Raises ValueError or TypeError for hooks that cannot be registered."""
        self._store.add(hooks, self._hookable)
        self._steps.clear()
        return self

    def _open_after(self, opening: Awaitable[None]) -> None:
        """Let calls wait for a setup that has begun while the app runs."""
        self._opening = opening
        self._steps.clear()

    def _open(self) -> None:
        self._opening = None
        self._steps.clear()

    def _refuse(self, failure: Exception) -> None:
        self._failure = failure

    @contextmanager
    def _being_set_up(self) -> Iterator[None]:
        """Let calls inside go on without waiting: the setup makes them itself."""
        token = _set_up_here.set(self)
        try:
            yield
        finally:
            _set_up_here.reset(token)

    async def _wait(self, context: Context, next: Next) -> None:
        if self._opening is not None and _set_up_here.get() is not self:
            await self._opening
        if self._failure is not None:
            raise Unavailable(f"The service '{self._path}' could not be set up", retry_after=None) from self._failure
        await next()

    async def _run(
        self, method: str, *, id: Any = None, data: Any = None, params: Mapping[str, Any] | None = None
    ) -> Context:
        """Run a method with its hooks, and return the context. Raises AttributeError for a method without hooks."""
        if method not in self._hookable:
            raise AttributeError(f"Method {method} of '{self._path}' is not hooked: list it in the service's methods")
        # Hooks change params and scope, so a call that is given the params of another call gets a copy.
        context = await self._app.call(Call(self, method, id, data, Params(params)))
        if context.deferred:
            after_commit(context.start_deferred)
        return context

    def _refuse_list(self, method: str, params: Params) -> None:
        """Raise MethodNotAllowed or BadRequest if a method does not take a list, before any hook runs."""
        if method == "create":
            if self._options.multi is None:
                self.service.require_multi(method, params)
            elif not self._options.multi:
                raise MethodNotAllowed(f"Can not {method} multiple entries")
        elif method == "update":
            raise BadRequest("You can not replace multiple instances. Did you mean 'patch'?")
        else:
            raise BadRequest(f"The data of '{method}' must be an object")

    async def find(self, params: Mapping[str, Any] | None = None) -> Found:
        """Return the records of a query: a page, or a list if the service does not paginate."""
        found: Found = (await self._run("find", params=params)).result
        return found

    async def get(self, id: Id, params: Mapping[str, Any] | None = None) -> Record:
        """Return the record with an id. Raises NotFound if there is none."""
        found: Record = (await self._run("get", id=id, params=params)).result
        return found

    @overload
    async def create(self, data: list[Any], params: Mapping[str, Any] | None = None) -> list[Record]: ...
    @overload
    async def create(self, data: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Record: ...
    async def create(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Create a record, or a list of records, and return what is stored."""
        return (await self._run("create", data=data, params=params)).result

    async def update(self, id: Id | None, data: Any, params: Mapping[str, Any] | None = None) -> Record:
        """Replace a record, and return it. Raises NotFound if there is none."""
        updated: Record = (await self._run("update", id=id, data=data, params=params)).result
        return updated

    @overload
    async def patch(self, id: Id, data: Any, params: Mapping[str, Any] | None = None) -> Record: ...
    @overload
    async def patch(self, id: None, data: Any, params: Mapping[str, Any] | None = None) -> Any: ...
    async def patch(self, id: Id | None, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Change fields of a record, or of all records of a query if the id is None, and return what is stored."""
        return (await self._run("patch", id=id, data=data, params=params)).result

    @overload
    async def remove(self, id: Id, params: Mapping[str, Any] | None = None) -> Record: ...
    @overload
    async def remove(self, id: None, params: Mapping[str, Any] | None = None) -> Any: ...
    async def remove(self, id: Id | None, params: Mapping[str, Any] | None = None) -> Any:
        """Remove a record, or all records of a query if the id is None, and return what was stored."""
        return (await self._run("remove", id=id, params=params)).result

    def __getattr__(self, name: str) -> Any:
        """Return a custom method that runs with its hooks, or any other attribute of the service."""
        if name in self.__dict__.get("_hookable", ()):
            return _CustomMethod(self, name)
        return getattr(self.__dict__["service"], name)

    def _add(self, event: str, listener: Listener, called: Listener) -> None:
        """Raise ValueError for a name that looks like a misspelled event: its listener would never run."""
        if event not in self._events and (hint := suggestion(event, self._events)):
            raise ValueError(f"'{event}' is not an event of '{self._path}'.{hint} Otherwise list it in its 'events'")
        super()._add(event, listener, called)

    def publish(self, event: str | AnyPublisher, publisher: AnyPublisher | None = None) -> BoundService[Record, Found]:
        """Register a publisher for an event, ``publish("created", function)``, or for all, ``publish(function)``.

        The function of ``(data, context)`` returns the channel or the list of channels that get the event, or None.
        Raises ValueError for an event that the service does not have.
        """
        if isinstance(event, str) and event not in self._events:
            raise ValueError(f"'{event}' is not a valid service event")
        self._publishers.register(event, publisher)
        return self

    def emit(self, event: str, *args: Any) -> None:
        """Call the listeners, and publish the event with its first argument, after the commit of the transaction."""
        turn = self._app.events.turn(self, args[:1] if event in EVENTS.values() else ())
        announcement = Announcement(
            partial(self._emit, event, args, turn), lambda: [message_of(self, event, args[0] if args else None)], turn
        )
        after_commit(announcement, turn.end)

    def _emit(self, event: str, args: tuple[Any, ...], turn: Turn) -> None:
        message = self._app.events.written(self, event, args[0] if args else None)
        turn.run(partial(self._emit_in_turn, event, args, message, turn))

    def _emit_in_turn(self, event: str, args: tuple[Any, ...], message: bytes | None, turn: Turn) -> None:
        super().emit(event, *args)
        self._app.events.publish(self, event, message, turn)

    def _is_followed(self, event: str) -> bool:
        return event in self._listeners or self._app.events.is_followed(self, event)

    def _take_turn(self, context: Context, event: str) -> None:
        """Take a turn for the records that a call has just stored, if anybody follows the event."""
        if self._is_followed(event):
            context.turn = self._app.events.turn(self, _items(context.result), context.id)

    def _announcement(self, context: Context, event: str, turn: Turn | None) -> Announcement:
        """Return the event of a call, to be sent when the call is stored."""

        def write() -> list[bytes]:
            return [message_of(self, event, item, sent, context) for item, sent in _dispatched(context)]

        return Announcement(partial(self._announce, context, event, turn), write, turn)

    def _announce(self, context: Context, event: str, turn: Turn | None) -> Awaitable[None] | None:
        """Send the event of a call when it is its turn. Return an awaitable if listeners are still at work."""
        if turn is None and not self._is_followed(event):
            return None
        events = self._app.events
        # Encoded now, as the caller may change the records before the call's turn.
        messages = [(item, events.written(self, event, item, sent, context)) for item, sent in _dispatched(context)]
        turn = events.turn(self, ()) if turn is None else turn
        return turn.run(partial(self._send, context, event, messages, turn))

    def _send(
        self, context: Context, event: str, messages: list[tuple[Any, bytes | None]], turn: Turn
    ) -> Awaitable[None] | None:
        """Call the listeners and publish the event, once for each item.

        Return an awaitable for ``async def`` listeners, or None.
        """
        pending: Pending = []
        for item, message in messages:
            if event in self._listeners:
                pending += self._call(event, (item, context))
            self._app.events.publish(self, event, message, turn)
        return self._callbacks.start(self._settle(event, pending)) if pending else None


class _StepsByMethod(dict[str, Steps]):
    """The steps of the methods of a service. Those of a method are put together when they are first needed."""

    def __init__(self, bound: BoundService) -> None:
        super().__init__()
        self.bound = bound

    def __missing__(self, method: str) -> Steps:
        bound = self.bound
        steps = steps_of_call(bound._app.store, bound._store, method, _method_step(bound.service, method))
        if bound._opening is not None:
            steps = (Step("around", bound._wait, True, "app", steps),)
        self[method] = steps
        return steps


_set_up_here: ContextVar[BoundService | None] = ContextVar("set up here", default=None)


@dataclass(frozen=True, slots=True)
class _CustomMethod:
    bound: BoundService
    name: str

    async def __call__(self, data: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        return (await self.bound._run(self.name, data=data, params=params)).result


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


def _items(value: Any) -> list[Any]:
    value = value.value if isinstance(value, RawJSON) else value
    return value if isinstance(value, list) else [value]


def _dispatched(context: Context) -> list[tuple[Any, Any]]:
    """Return the records that the events of a call are about, each with the part of it that is sent."""
    results, dispatched = _items(context.result), _items(context.external)
    if len(dispatched) != len(results):
        dispatched = [context.external] * len(results)
    return list(zip(results, dispatched, strict=True))


def _method_step(service: Any, method: str) -> Callable[[Context], Awaitable[None]]:
    """Return the step that runs a method, unless a hook has set the result."""
    function, takes_id, takes_data = getattr(service, method), "id" in taken_by(method), "data" in taken_by(method)
    outgoing = service._outgoing(method) if isinstance(service, Service) else None
    called: Callable[..., Awaitable[Any]] = outgoing or function

    async def call_method(context: Context) -> None:
        if context._result is UNSET:
            arguments: list[Any] = [context.id] if takes_id else []
            if takes_data:
                arguments.append(context.data)
            arguments.append(context.params)
            if outgoing is not None:
                arguments.append(context.params.provider is not None)
            try:
                if context.around_method is None:
                    context._result = await called(*arguments)
                else:
                    context._result = await context.around_method(partial(called, *arguments))
            except Exception as error:
                blame(error, None)
                raise
            if context.event is not None:
                context.service._take_turn(context, context.event)

    return call_method
