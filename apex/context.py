"""The params and the context of a call, which its hooks read and change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Generic, Self

from typing_extensions import TypeVar

from apex.encoding import RawJSON
from apex.query.scope import CheckedDict, Scope, scope_of
from apex.types import UNSET, Paginate, is_many, items, taken_by, with_items

if TYPE_CHECKING:
    from apex.app import Apex
    from apex.events import Entries
    from apex.realtime.channels import Connection
    from apex.realtime.turns import Turn
    from apex.service import BoundService

__all__ = ["Context", "Params", "external_call"]

Data = TypeVar("Data", default=Any)
Result = TypeVar("Result", default=Any)

AroundMethod = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""A function that is called with the method of a call, runs it, and returns its result, or raises an error instead."""

Deferred = list[tuple[Callable[..., Any], tuple[Any, ...]]]
"""Functions that are called after a response, with their arguments."""


@dataclass(slots=True, eq=False)
class EntryId:
    """The id of an entry of the log, and its ``transaction``, which is None until the follower has read the entry."""

    id: int
    transaction: int | None = None


class Params(CheckedDict):
    """The parameters of a call: a dict whose keys are attributes too. A missing one reads as None.

    ``query`` is the query of the caller, which is not trusted. ``scope`` limits the records that the caller may touch,
    and only hooks write it. ``provider`` names the transport, and is missing in calls inside the process.
    """

    query: Mapping[str, Any]
    scope: Scope
    provider: str | None
    headers: Mapping[str, str]
    route: dict[str, str]
    ip: str | None
    body: bytes | None
    user: Any
    authentication: Any
    connection: Connection | None
    adapter: dict[str, Any] | None
    paginate: Paginate | None

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__(values or ())
        if self.get("query") is None:
            self["query"] = {}
        scope = self.get("scope")
        dict.__setitem__(self, "scope", Scope() if scope is None else scope_of(scope))

    def __getattr__(self, name: str) -> Any:
        value = self.get(name)
        if value is None and name[:2] == "__":  # Python asks objects for what they can do, such as ``__deepcopy__``.
            raise AttributeError(name)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(dict, name):
            raise AttributeError(f"params.{name} is a method of dicts: set params['{name}']")
        dict.__setitem__(self, name, scope_of(value) if name == "scope" else value)

    def __delattr__(self, name: str) -> None:
        self.pop(name, None)

    def __setitem__(self, name: str, value: Any) -> None:
        dict.__setitem__(self, name, scope_of(value) if name == "scope" else value)

    def __copy__(self) -> Self:
        return self.copy()

    def _replace(self, old: Params, kept: Mapping[str, Any]) -> None:
        """Replace the ``old`` params of a call. Its ``kept`` params stay, and so do the fields of its scope.

        Raises TypeError for another provider or another value of a field in the scope, as a merge with data of the
        caller must not change them.
        """
        self.update(kept)
        if self.get("provider") != old.get("provider"):
            raise TypeError(
                "context.params was given another provider: a call keeps its own. To change it all the same, set "
                "context.params.provider"
            )
        for name, allowed in old.scope.items():
            if name not in self.scope:
                self.scope[name] = allowed
            elif self.scope[name] != allowed:
                raise TypeError(
                    f"context.params was given another scope for '{name}': a scope holds to the end of its call. To "
                    f"change it all the same, set context.params.scope['{name}']"
                )


if not TYPE_CHECKING:
    # Read without a call of ``__getattr__``, as hooks and adapters do many times in a call.
    for _name in Params.__annotations__:
        setattr(Params, _name, property(methodcaller("get", _name)))

KEPT = ("query", "provider", "headers", "route", "connection", "authentication", "adapter", "paginate")
"""The params that a call is made with. Params that replace others keep those that they do not name."""


def params_of(params: Mapping[str, Any] | None) -> Params:
    """Return params as they are, and a dict or None as params."""
    return params if isinstance(params, Params) else Params(params)


class _Slots:
    __slots__ = ("_params",)
    _params: Params


class Context(_Slots, Generic[Data, Result]):
    """The context of a call, which its hooks read and change until the method runs.

    A hook may declare the types of ``data`` and ``result``::

        def shorten(context: Context[Message]) -> None:
            context.data["text"] = context.data["text"][:100]

    ``id``, ``data`` and ``params`` are the arguments of the method. You may assign any dict to ``params``. It becomes
    ``Params``, and keeps the scope and the params in ``KEPT``. If a hook sets ``result`` before the method, the method
    does not run. If an error hook sets it, it answers the call in place of the error. ``dispatch`` is the result for
    external callers, if it differs. ``http`` holds ``status``, ``headers`` and ``location`` of the response.
    """

    __slots__ = (
        "_announced", "_populated", "_result", "_visible", "app", "around_method", "data", "deferred", "dispatch",
        "emitted", "entries", "entry", "error", "event", "http", "id", "is_open", "is_running", "method", "original",
        "path", "position", "service", "turn", "type",
    )  # fmt: skip

    def __init__(
        self,
        app: Apex,
        service: BoundService | None,
        method: str,
        *,
        id: Any = None,
        data: Data | None = None,
        params: Params | None = None,
        event: str | None = None,
        around_method: AroundMethod | None = None,
    ) -> None:
        self.app: Apex = app
        # The lifecycle hooks of the app have none.
        self.service: BoundService = service  # type: ignore[assignment]
        self.path: str = service._path if service is not None else ""
        self.method: str = method
        self.type: str = "around"
        self.id: Any = id
        self.data: Data = data  # type: ignore[assignment]
        self._params = params = Params() if params is None else params
        self.event: str | None = event
        self.around_method: AroundMethod | None = around_method
        self.error: BaseException | None = None
        self.original: Self | None = None
        self.dispatch: Any = UNSET
        self.turn: Turn | None = None
        self.entries: Entries | None = None
        self.position: Any = None
        """The position in the log from which a client can follow the result of a ``find`` or ``get``."""
        self.entry: EntryId | None = None
        """The entry of the log, in the context of publishers."""
        self.emitted: list[Awaitable[None]] | None = None
        self._announced: Self | None = None
        self._populated: Any = None
        self.http: dict[str, Any] | None = {} if params.get("provider") == "rest" else None
        self._result: Any = UNSET
        self._visible: Callable[[Any], Any] | None = None
        self.deferred: Deferred | None = None
        self.is_open: bool = True
        self.is_running: bool = True

    def _set_params(self, params: Mapping[str, Any]) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(f"context.params must be a dict, not {type(params).__name__}")
        if params is not self._params:
            kept = {name: self._params[name] for name in KEPT if name in self._params and name not in params}
            replaced = params if isinstance(params, Params) else Params({**kept, **params})
            replaced._replace(self._params, kept)
            self._params = replaced

    if TYPE_CHECKING:

        @property
        def params(self) -> Params:
            """The params of the call."""
            ...

        @params.setter
        def params(self, params: Mapping[str, Any]) -> None: ...

    else:
        # Read by the slot itself: a function for that takes twice as long, many times in a call.
        params = property(_Slots._params.__get__, _set_params, doc="The params of the call.")

    @property
    def self(self) -> BoundService:
        """The registered service, as ``service``. Feathers has both names."""
        return self.service

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The arguments of the method: id and data where it takes them, and the params."""
        return (*(getattr(self, name) for name in taken_by(self.method)), self.params)

    @property
    def takes_data(self) -> bool:
        """True if the method is create, update, patch or a custom one."""
        return "data" in taken_by(self.method)

    @property
    def has_result(self) -> bool:
        """True if there is a result, which may be None."""
        return self._result is not UNSET

    @property
    def result(self) -> Result:
        """The method's result, None before there is one. JSON that a database has built is decoded when it is read."""
        result: Any = self._result
        if isinstance(result, RawJSON):
            result = self._result = result.value
        return None if result is UNSET else result  # type: ignore[return-value]

    @result.setter
    def result(self, value: Result) -> None:
        self._result = value

    @result.deleter
    def result(self) -> None:
        self._result = UNSET

    @property
    def items(self) -> list[Any]:
        """The records of the call, one or many: those of the result, or of the data before there is a result.

        Change them in place, or assign others: ``context.items = [{**item, "by": 5} for item in context.items]``.
        Data and result keep their form: one record, a list or a page. Raises ValueError if the call has one record and
        another number is assigned.
        """
        if self._result is UNSET:
            data: Any = self.data
            return data if isinstance(data, list) else [] if data is None else [data]
        return items(self.method, self.result)

    @items.setter
    def items(self, records: Iterable[Any]) -> None:
        has_result = self._result is not UNSET
        method, value = (self.method, self.result) if has_result else (None, self.data)
        changed = list(records)
        if not is_many(method, value) and len(changed) != len(items(method, value)):
            raise ValueError(f"context.items is one record here, and was given {len(changed)}")
        made: Any = with_items(method, value, changed)
        if has_result:
            self.result = made
        else:
            self.data = made

    @property
    def has_dispatch(self) -> bool:
        """True if a hook has set ``dispatch``."""
        return self.dispatch is not UNSET

    @property
    def external(self) -> Any:
        """The result for external callers: ``dispatch`` if it is set, else ``result``. Permissions may cut it."""
        value = self.result if self.dispatch is UNSET else self.dispatch
        return value if self._visible is None else self._visible(value)

    @property
    def _outgoing(self) -> Any:
        """The value that a transport sends: ``external``, or the database's own JSON if nothing has read it."""
        value = self._result if self.dispatch is UNSET else self.dispatch
        if self._visible is not None:
            value = self._visible(value)
        return None if value is UNSET else value

    def _answer_with(self, inner: Context[Any, Any]) -> Any:
        """Return the result of a call that this one has made in its place. Callers from outside see what it shows."""
        if inner.has_dispatch or inner._visible is not None:
            self.dispatch = inner.external
        self._visible = None
        return inner._result

    def after_response(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function, ``def`` or ``async def``, once the caller has its answer: after the response over REST,
        after the acknowledgement over a socket, and at the end of the outermost call inside the process.

        The function does not run if this call fails, or a call that it is part of. Its exceptions are logged and
        counted. Raises TypeError if ``function`` cannot be called.
        """
        if not callable(function):
            raise TypeError(f"after_response takes a function and its arguments, not {function!r}")
        self._defer([(function, args)])

    def _defer(self, calls: Deferred) -> None:
        if self.is_open:
            self.deferred = [*(self.deferred or ()), *calls]
            return
        current = current_call.get()  # A listener is called with the context of a call that has ended.
        if current is not None and current.is_open:
            current._defer(calls)
        else:
            self._start(calls)

    def start_deferred(self) -> None:
        """Start the functions of ``after_response``. Transports call this once they have answered."""
        calls, self.deferred = self.deferred, None
        if calls:
            self._start(calls)

    def _start(self, calls: Deferred) -> None:
        self.app.callbacks.start_all(f"After the response of '{self.method}' of '{self.path}'", calls)

    def close(self, outer: Context | None) -> None:
        """End a call that has succeeded. Its deferred functions wait for the answer of the ``outer`` call, if any."""
        self.is_open = False
        if self.deferred and outer is not None:
            calls, self.deferred = self.deferred, None
            outer._defer(calls)

    def update(self, values: Mapping[str, Any]) -> None:
        """Set attributes from a dict that a hook has returned. Raises AttributeError for an unknown key."""
        for name, value in values.items():
            setattr(self, name, value)

    def copy(self) -> Self:
        """Return a copy, whose attributes are the same objects."""
        other = object.__new__(type(self))
        other._params = self._params
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes for logs, without the app and the service."""
        names = ("path", "method", "type", "id", "data", "params", "result", "error", "event")
        return {name: getattr(self, name) for name in names}


current_call: ContextVar[Context | None] = ContextVar("call", default=None)
"""The running call. Calls that its hooks and its method make are parts of it."""

external_call: ContextVar[Context | None] = ContextVar("external call", default=None)
"""The outermost call from outside. Calls that it makes have its caller, also in tasks that outlive it."""
