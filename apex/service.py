"""Services: the base class, the options, and the registered service that callers use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypedDict, overload

from typing_extensions import TypeVar

from apex.callbacks import Emitter, Listener
from apex.context import AroundMethod, Context, Params
from apex.errors import BadRequest, FeathersError, MethodNotAllowed
from apex.events import EVENTS, AnyPublisher, EventLog, Publishers
from apex.hooks import AnyHooks, Around, HookStore, Step, Steps, blame, enclose, steps_of, steps_of_call
from apex.query.language import suggestion
from apex.transaction import after_commit
from apex.types import READS, STANDARD, UNSET, Id, taken_by

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.permissions.policy import Policy

__all__ = ["BodyLimit", "BodyLimits", "BoundService", "Call", "Service", "ServiceOptions"]

Record = TypeVar("Record", default=Any)
"""The type of the records of a service, such as a TypedDict."""

Found = TypeVar("Found", default=Any)
"""The type of the result of ``find``, such as ``Page[Message]``."""


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

    ``answer_only`` names fields that only the answer to a call has, such as a key that is shown once. Events and the
    log leave them out. ``volatile`` names fields that the server changes by itself at any time, such as the moment of
    the last use: a whole record that is sent back may have former values of them. If ``logged`` is False, the events of
    the service are not in the log of the app.
    """

    methods: Sequence[str] | None = None
    events: Sequence[str] = ()
    multi: bool | Sequence[str] = False
    body_limits: BodyLimits = MappingProxyType({})
    answer_only: Sequence[str] = ()
    volatile: Sequence[str] = ()
    logged: bool = True

    def _outgoing(self, method: str) -> Callable[..., Awaitable[Any]] | None:
        """Return the method that the framework calls in place of this one (see ``Adapter``), or None."""
        return None

    def _enclose(self, method: str, steps: Steps) -> Steps:
        """Return the steps of a method, with those of the service itself around them."""
        return steps

    def _registered(self, app: Apex, path: str) -> None:
        """Raise TypeError if the service cannot work in the app. Called before the service gets its path."""

    def _hooks_around(self, bound: BoundService, method: str, steps: Steps) -> Sequence[Around]:
        """Return the hooks that the service itself runs around a method, inside of all others, which are ``steps``."""
        return ()


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

    ``around_method`` is a function that runs the method, or returns a result or raises an error in place of it.
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
        self._late_setup: Around | None = None
        self._policy: Policy | None = None
        private = getattr(service, "private", ()) if isinstance(service, Service) else ()
        self._unsent = frozenset((*private, *getattr(service, "answer_only", ())))
        """The fields of records that are neither in events nor in the log."""
        self._is_logged = bool(getattr(service, "logged", True))
        """True if its events are entries of the log, in an app with one."""

    def hooks(self, hooks: AnyHooks) -> BoundService[Record, Found]:
        """Register more hooks, at any time. Raises ValueError or TypeError for hooks that cannot be registered."""
        self._store.add(hooks, self._hookable)
        self._steps.clear()
        return self

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
            # One object for each method, so that ``off`` finds a method that was added as a listener.
            method = self.__dict__[name] = partial(self._call_custom, name)
            return method
        return getattr(self.__dict__["service"], name)

    async def _call_custom(self, name: str, /, data: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        return (await self._run(name, data=data, params=params)).result

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
        self._app.events.emit(self, event, args)


class _StepsByMethod(dict[str, Steps]):
    """The steps of the methods of a service. Those of a method are put together when they are first needed."""

    def __init__(self, bound: BoundService) -> None:
        super().__init__()
        self.bound = bound

    def __missing__(self, method: str) -> Steps:
        bound, service = self.bound, self.bound.service
        log = bound._app.log if method in READS and bound._is_logged else None
        inner: Steps = (Step("around", _method_step(service, method, log), True, "service"),)
        steps = steps_of_call(bound._app.store, bound._store, method, inner)
        if isinstance(service, Service) and (hooks := service._hooks_around(bound, method, steps)):
            inner = enclose(steps_of("around", list(hooks), f"in '{bound._path}'", "service"), inner)
            steps = steps_of_call(bound._app.store, bound._store, method, inner)
        if bound._app.log is not None and (logged := bound._app.log.writer.hooks_around(bound, method, steps)):
            around_call, around_method = logged
            inner = enclose((Step("around", around_method, True, "service"),), inner)
            steps = steps_of_call(bound._app.store, bound._store, method, inner)
            if around_call is not None:
                steps = enclose((Step("around", around_call, True, "app"),), steps)
        if isinstance(service, Service):
            steps = service._enclose(method, steps)
        if bound._late_setup is not None:
            steps = (Step("around", bound._late_setup, True, "app", steps),)
        self[method] = steps
        return steps


def _method_step(service: Any, method: str, log: EventLog | None) -> Callable[[Context], Awaitable[None]]:
    """Return the step that runs a method, unless a hook has set the result. The ``log`` is that of what it reads."""
    function, takes_id, takes_data = getattr(service, method), "id" in taken_by(method), "data" in taken_by(method)
    outgoing = service._outgoing(method) if isinstance(service, Service) else None
    called: Callable[..., Awaitable[Any]] = outgoing or function

    async def call_method(context: Context) -> None:
        if context._result is UNSET:
            if log is not None:
                context.position = log.follower.position
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
                context.app.events.take_turn(context)

    return call_method
