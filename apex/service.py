"""Services: the class to extend, their options, and the registered service that callers hold."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from apex.callbacks import is_async, takes
from apex.context import Context, Params, Precondition, current_call, external_call
from apex.emitter import Emitter, Listener, Pending
from apex.encoding import RawJSON
from apex.errors import BadRequest, FeathersError, MethodNotAllowed, Unavailable
from apex.events import Announcement, AnyPublisher, Publishers, Turn, message_of
from apex.hooks import AnyHooks, Chain, HookStore, blame, compose
from apex.query.language import suggestion
from apex.tenant import NO_TENANTS, current_tenants
from apex.transaction import after_commit
from apex.types import STANDARD, Id, taken_by

if TYPE_CHECKING:
    from apex.app import Apex

__all__ = ["BodyLimit", "BodyLimits", "BoundService", "Call", "Service", "ServiceOptions"]

EVENTS: Mapping[str, str] = {"create": "created", "update": "updated", "patch": "patched", "remove": "removed"}

_HOOK_WORDS = frozenset({"all", "around", "before", "after", "error", "hooks", "setup", "teardown", "publish"})


class BodyLimit(NamedTuple):
    """The number of bytes that the body of a method's request may have, and the advice for a caller with more."""

    size: int
    advice: str = ""


BodyLimits = Mapping[str, int | BodyLimit]


class Service:
    """The base of services. It adds nothing but a place for options; any object with the methods may be a service.

    ``methods`` lists what callers outside may use (None: the standard methods there are), ``events`` the custom events.
    ``multi`` says whether ``create`` takes a list of records. ``body_limits`` maps methods that take more than other
    bodies to the bytes of theirs.
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
    """What ``use`` takes by name."""

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


@dataclass(frozen=True, slots=True)
class Call:
    """What a transport builds: which method of which service, with what."""

    service: BoundService
    method: str
    id: Id | None = None
    data: Any = None
    params: Params = field(default_factory=Params)
    precondition: Precondition | None = None


class BoundService(Emitter):
    """A registered service: its methods run with all hooks. ``service`` is the object as it was written.

    All other names begin with an underscore, so that custom methods may have any name.
    """

    def __init__(self, app: Apex, path: str, service: Any, options: Options) -> None:
        super().__init__(app.callbacks)
        self._app, self._path, self.service, self._options = app, path, service, options
        self._hookable = _hookable(service, options.methods)
        # One without any methods refuses each verb by itself.
        self._has_records = not options.methods or not {"get", "update", "patch"}.isdisjoint(options.methods)
        self._events = frozenset((*EVENTS.values(), *options.events))
        self._publishers = Publishers()
        self._store = HookStore(f"service '{path}'")
        self._chains: dict[str, Chain] = {}
        self._opening: Awaitable[None] | None = None
        self._failure: Exception | None = None
        self._compose()

    def hooks(self, hooks: AnyHooks) -> BoundService:
        """Registers more hooks, at any time. Raises ValueError or TypeError for what is not a hook map."""
        self._store.add(hooks, self._hookable)
        self._compose()
        return self

    def _compose(self) -> None:
        """Builds the callables anew, after hooks have changed."""
        self._chains = {
            method: compose(self._app.store, self._store, method, _runner(self.service, method))
            for method in self._hookable
        }
        if self._opening is not None:
            self._chains = {method: partial(self._wait, chain) for method, chain in self._chains.items()}

    def _open_after(self, opening: Awaitable[None]) -> None:
        """Let calls wait for a setup that has begun while the app runs."""
        self._opening = opening
        self._compose()

    def _open(self) -> None:
        self._opening = None
        self._compose()

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

    async def _wait(self, chain: Chain, context: Context) -> None:
        if self._opening is not None and _set_up_here.get() is not self:
            await self._opening
        if self._failure is not None:
            raise Unavailable(f"The service '{self._path}' could not be set up", retry_after=None) from self._failure
        await chain(context)

    async def _run(
        self, method: str, *, id: Any = None, data: Any = None, params: Mapping[str, Any] | None = None
    ) -> Context:
        """Runs a method with its hooks and gives the context. Raises AttributeError for a method without hooks."""
        if method not in self._chains:
            raise AttributeError(f"Method {method} of '{self._path}' is not hooked: list it in the service's methods")
        # Hooks write into the params and the scope: a call made with another one's params gets its own.
        context = await self._serve(method, id, data, Params(params))
        if context.deferred:
            after_commit(context.start_deferred)
        return context

    async def _serve(
        self, method: str, id: Any, data: Any, params: Params, precondition: Precondition | None = None
    ) -> Context:
        """Run a method. The params belong to this call alone and may be changed."""
        if isinstance(data, list) and method in STANDARD:
            self._refuse_list(method, params)
        context = Context(
            self._app, self, method, id=id, data=data, params=params, event=EVENTS.get(method),
            precondition=precondition,
        )  # fmt: skip
        outer, calls = current_call.get(), current_call.set(context)
        tenants = external = None
        if params.get("provider"):
            tenants = current_tenants.set(NO_TENANTS)
            outermost = external_call.get()
            if outermost is None or not outermost.is_running:
                external = external_call.set(context)
        try:
            await self._chains[method](context)
        except BaseException:
            if context.turn is not None:
                context.turn.end()
            raise
        finally:
            context.is_running = False
            current_call.reset(calls)
            if tenants is not None:
                current_tenants.reset(tenants)
            if external is not None:
                external_call.reset(external)
        if context.event is not None and context.event not in self._options.events:
            turn = context.turn
            pending = after_commit(self._announcement(context, context.event, turn), None if turn is None else turn.end)
            if pending is not None:
                await pending
        elif context.turn is not None:
            context.turn.end()
        events = self._app.events
        if events.handed < events.sent and params.get("provider"):
            await events.hand_over()
        if context.deferred:
            after_commit(partial(context.close, outer))
        else:
            context.is_open = False
        return context

    def _refuse_list(self, method: str, params: Params) -> None:
        """Raise MethodNotAllowed or BadRequest where a method does not take a list, before any hook runs."""
        if method == "create":
            if self._options.multi is None:
                self.service.require_multi(method, params)
            elif not self._options.multi:
                raise MethodNotAllowed(f"Can not {method} multiple entries")
        elif method == "update":
            raise BadRequest("You can not replace multiple instances. Did you mean 'patch'?")
        else:
            raise BadRequest(f"The data of '{method}' must be an object")

    async def find(self, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run("find", params=params)).result

    async def get(self, id: Id, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run("get", id=id, params=params)).result

    async def create(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run("create", data=data, params=params)).result

    async def update(self, id: Id | None, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run("update", id=id, data=data, params=params)).result

    async def patch(self, id: Id | None, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run("patch", id=id, data=data, params=params)).result

    async def remove(self, id: Id | None, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run("remove", id=id, params=params)).result

    def __getattr__(self, name: str) -> Any:
        """A custom method runs with its hooks; any other attribute is the service's own."""
        if name in self.__dict__.get("_hookable", ()):
            return _CustomMethod(self, name)
        return getattr(self.__dict__["service"], name)

    def _add(self, event: str, listener: Listener, called: Listener) -> None:
        """Raises ValueError for a name that looks like a misspelled event: its listener would never run."""
        if event not in self._events and (hint := suggestion(event, self._events)):
            raise ValueError(f"'{event}' is not an event of '{self._path}'.{hint} Otherwise list it in its 'events'")
        super()._add(event, listener, called)

    def publish(self, event: str | AnyPublisher, publisher: AnyPublisher | None = None) -> BoundService:
        """Registers who gets an event: ``publish("created", function)``, or ``publish(function)`` for all events.

        The function of ``(data, context)`` gives a channel, a list of channels or None: then nobody gets it.
        Raises ValueError for an event that the service does not have.
        """
        if isinstance(event, str) and event not in self._events:
            raise ValueError(f"'{event}' is not a valid service event")
        self._publishers.register(event, publisher)
        return self

    def emit(self, event: str, *args: Any) -> None:
        """Call the listeners and publish the event with its first argument, once the unit of work is stored."""
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
        return Announcement(partial(self._announce, context, event, turn), partial(self._write, context, event), turn)

    def _write(self, context: Context, event: str) -> list[bytes]:
        """Return the event of a call as JSON, one text for each record."""
        return [message_of(self, event, item, sent, context) for item, sent in _dispatched(context)]

    def _announce(self, context: Context, event: str, turn: Turn | None) -> Awaitable[None] | None:
        """Send the event of a call when it is its turn. Return an awaitable if listeners are still at work."""
        if turn is None and not self._is_followed(event):
            return None
        events = self._app.events
        # Encoded now, as the caller may change the records before the call's turn.
        messages = [(item, events.written(self, event, item, sent, context)) for item, sent in _dispatched(context)]
        turn = events.turn(self, ()) if turn is None else turn
        return turn.run(partial(self._tell, context, event, messages, turn))

    def _tell(
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


_set_up_here: ContextVar[BoundService | None] = ContextVar("set up here", default=None)


@dataclass(frozen=True, slots=True)
class _CustomMethod:
    bound: BoundService
    name: str

    async def __call__(self, data: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        return (await self.bound._run(self.name, data=data, params=params)).result


PROTECTED = _HOOK_WORDS | {"service"} | {name for name in dir(BoundService) if name not in STANDARD}
"""The names that no custom method can have: those of hooks and of ``BoundService``."""


def options_of(path: str, service: Any, given: Mapping[str, Any]) -> Options:
    """The options of a service as written, with what ``use`` was given over them.

    Raises ValueError for an object without methods, a protected name, or a method that does not exist, and TypeError
    for a class, or a method that cannot be called as it will be.
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
    """Return the records that the events of a call are about, each with what is sent of it."""
    results, dispatched = _items(context.result), _items(context.external)
    if len(dispatched) != len(results):
        dispatched = [context.external] * len(results)
    return list(zip(results, dispatched, strict=True))


def _hookable(service: Any, methods: Sequence[str]) -> tuple[str, ...]:
    standard = [method for method in STANDARD if callable(getattr(service, method, None))]
    return tuple(dict.fromkeys([*standard, *methods]))


def _runner(service: Any, method: str) -> Chain:
    function, names = getattr(service, method), taken_by(method)
    outgoing = service._outgoing(method) if isinstance(service, Service) else None
    called: Callable[..., Awaitable[Any]] = outgoing or function

    async def run(context: Context) -> None:
        if not context.has_result:
            arguments = [getattr(context, name) for name in names]
            arguments.append(context.params)
            if outgoing is not None:
                arguments.append(context.params.get("provider") is not None)
            try:
                if context.precondition is None:
                    context.result = await called(*arguments)
                else:
                    context.result = await context.precondition(partial(called, *arguments))
            except Exception as error:
                blame(error, None)
                raise
            if context.event is not None:
                context.service._take_turn(context, context.event)

    return run


def arguments_of(method: str, values: list[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a method takes, by name, and the query. Raises BadRequest for what cannot be either."""
    names = taken_by(method)
    if len(values) > len(names) + 1:
        raise BadRequest(f"Too many arguments for '{method}' method")
    given = dict(zip((*names, "query"), values, strict=False))
    query = given.pop("query", None)
    if not isinstance(query, dict | None):
        raise BadRequest("The query must be an object")
    if isinstance(given.get("id"), bool | float | list | dict):
        raise BadRequest("The id must be a string, an integer or null")
    if method in STANDARD and not isinstance(given.get("data"), dict | list | None):
        raise BadRequest("The data must be an object or a list")
    return given, query or {}
