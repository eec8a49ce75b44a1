"""The application: the registry of services, their hooks, and the way in for every call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any, Unpack

from apex.callbacks import Callbacks, is_async, name_of
from apex.context import Context
from apex.emitter import Emitter
from apex.errors import ConfigError, FeathersError
from apex.events import AnyPublisher, Events
from apex.hooks import LIFECYCLE, AnyHooks, Chain, HookStore, Step, around, steps_of
from apex.realtime.bus import Bus
from apex.realtime.channels import NamedChannel
from apex.router import Match, Router, split
from apex.service import BoundService, Call, Service, ServiceOptions, options_of
from apex.types import STANDARD

__all__ = ["Apex"]

log = logging.getLogger("apex")

ASGI = Callable[[MutableMapping[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[None]]], Any]


class Apex(Emitter):
    """A Feathers application. Register services with ``use``, hooks with ``hooks``, a transport with ``configure``.

    ``settings`` holds what ``get`` and ``set`` reach. The app itself is an ASGI application.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.callbacks = Callbacks()
        super().__init__(self.callbacks)
        self.settings: dict[str, Any] = dict(settings or {})
        self.services: dict[str, BoundService] = {}
        self.router: Router[BoundService] = Router()
        self.store = HookStore()
        self.lifecycle: dict[str, list[Step]] = {name: [] for name in LIFECYCLE}
        self.parsers: list[Callable[[Mapping[str, str]], dict[str, Any] | None]] = []
        self.transport: ASGI | None = None
        self.events = Events(self)
        self.bus = Bus()
        self.default_service: Callable[[str], Any] | None = None
        self._is_setup = False
        self._refusal: str | None = None
        self._set_up: set[str] | None = None

    def get(self, name: str) -> Any:
        return self.settings.get(name)

    def set(self, name: str, value: Any) -> Apex:
        self.settings[name] = value
        return self

    def configure(self, function: Callable[[Apex], Any]) -> Apex:
        """Call a function with the app. Raises TypeError for an ``async def``."""
        if is_async(function):
            raise TypeError(
                f"configure takes a 'def' function, and {name_of(function)} is 'async def': "
                "do what it awaits in a service's setup or in app.hooks({'setup': [...]})"
            )
        function(self)
        return self

    @property
    def channels(self) -> list[str]:
        """The names of the channels that have connections."""
        return self.events.channels.names

    def channel(self, *names: str | list[str]) -> NamedChannel:
        """The channel of a name, or several channels as one. Raises ValueError without a name."""
        return self.events.channels.named(*names)

    def publish(self, event: str | AnyPublisher, publisher: AnyPublisher | None = None) -> Apex:
        """Registers who gets the events of the services that have no publisher of their own for them."""
        self.events.publishers.register(event, publisher)
        return self

    def use(self, path: str, service: Any, *, hooks: AnyHooks | None = None, **options: Unpack[ServiceOptions]) -> Apex:
        """Registers a service under a path, which may hold placeholders such as ``groups/:groupId/members``.

        Options are ``methods``, ``events``, ``multi``, ``errors`` and ``body_limits``. With ``multi`` a ``create``
        takes a list. ``errors`` is a function that returns the body of a REST response for a FeathersError, for an API
        whose errors have a form of their own. ``body_limits`` maps methods to the bytes that their bodies may have
        beyond ``bodyLimit``. Another ``Apex`` as the service adds all of its services.
        Raises ValueError for a path that is taken, a service without methods or a protected name, TypeError for a
        column whose type cannot be used.
        """
        if not isinstance(path, str):
            raise ValueError(f"'{path}' is not a valid service path.")
        path = path.strip("/") or "/"
        if isinstance(service, Apex):
            service.callbacks.outer = self.callbacks
            for name, bound in service.services.items():
                self._register("/".join([*split(path), *split(name)]) or "/", bound)
            return self
        bound = BoundService(self, path, service, options_of(path, service, options))
        if hooks:
            bound.hooks(hooks)
        if isinstance(service, Service):
            service._registered(self, path)
        self._register(path, bound)
        return self

    def _register(self, path: str, bound: BoundService) -> None:
        self.router.insert(path, bound)
        self.services[path] = bound
        if self._is_setup:
            bound._open_after(self.callbacks.start(self._set_up_late(path, bound)))

    async def _set_up_late(self, path: str, bound: BoundService) -> None:
        """Set up a service of a running app. Its calls wait for the setup, and are refused if it fails."""
        try:
            with bound._being_set_up():
                await self._set_up_service(path, bound)
        except Exception as error:
            log.exception("The setup of '%s' failed: its calls are refused", path)
            bound._refuse(error)
        else:
            bound._open()

    async def _set_up_service(self, path: str, bound: BoundService) -> None:
        await _lifecycle(bound, "setup", path)
        if self._set_up is not None:
            self._set_up.add(path)

    def service(self, path: str) -> BoundService:
        """The service registered under a path. Raises LookupError when there is none."""
        path = path.strip("/") or "/"
        if path not in self.services and self.default_service is not None:
            self.use(path, self.default_service(path))
        if path not in self.services:
            raise LookupError(f"Can not find service '{path}'")
        return self.services[path]

    async def unuse(self, path: str) -> BoundService:
        """Tears a service down and takes it away. Raises LookupError when there is none."""
        path = path.strip("/") or "/"
        bound = self.service(path)
        await self._tear_down_service(path, bound)
        del self.services[path]
        self.router.remove(path)
        return bound

    def hooks(self, hooks: AnyHooks) -> Apex:
        """Registers hooks for all services, or around hooks for ``setup`` and ``teardown``.

        Methods are those of Feathers and the custom ones of the services that there are. Another name may be that of a
        service to come: ``setup`` raises ValueError where none has it. Raises ValueError for a name that is nearly one
        of those, and TypeError for what cannot be a hook in its place.
        """
        if isinstance(hooks, Mapping) and any(name in LIFECYCLE for name in hooks):
            for name, functions in hooks.items():
                if name not in LIFECYCLE:
                    raise ValueError(f"'{name}' is not a lifecycle hook: register it in a call of its own")
                self.lifecycle[name].extend(steps_of("around", functions, f"in {name} of the app"))
            return self
        self.store.add(hooks, self._methods, later=not self._is_setup)
        for bound in self.services.values():
            bound._compose()
        return self

    @property
    def _methods(self) -> Iterator[str]:
        """The methods of Feathers, and those that services have beside them."""
        own = (method for bound in self.services.values() for method in bound._hookable)
        return iter(dict.fromkeys((*STANDARD, *own)))

    def lookup(self, segments: Sequence[str], spelled: Sequence[str] | None = None) -> Match[BoundService] | None:
        """Return the service for the decoded segments of a path, with placeholders and id, or None.

        ``spelled`` are the segments as a URL has them.
        """
        return self.router.lookup(segments, spelled)

    def call(self, call: Call) -> Coroutine[Any, Any, Context]:
        """Runs a call from a transport and gives its context. Raises whatever the hooks let through."""
        return call.service._serve(call.method, call.id, call.data, call.params, call.precondition)

    async def setup(self) -> Apex:
        """Run ``setup(app, path)`` of each service, in the order in which they were registered.

        If one fails, the services that were set up are torn down before its error is raised.
        """
        for app in {self, *(bound._app for bound in self.services.values())}:
            app.store.require_methods(app._methods)
        self.callbacks.open()
        self._set_up = set()
        try:
            await self._run_lifecycle("setup")
            self.bus.on("event", self.events.deliver)
            await self.bus.open()
        except BaseException:
            await self._undo_setup()
            raise
        return self

    async def _undo_setup(self) -> None:
        try:
            await self.teardown()
        except Exception:
            log.exception("The teardown after a setup that failed has failed too")

    async def teardown(self) -> Apex:
        """Run ``teardown(app, path)`` of each service, in the same order, once running callbacks have ended."""
        self.emit("shutdown")
        await self.callbacks.drain()
        await self.bus.close()
        await self._run_lifecycle("teardown")
        return self

    async def _run_lifecycle(self, name: str) -> None:
        context = Context(self, None, name)
        await around(self.lifecycle[name], self._each(name))(context)
        context.close(None)
        context.start_deferred()

    @asynccontextmanager
    async def lifespan(self, outer: Any = None) -> AsyncIterator[None]:
        """Set the app up, and tear it down at the end.

        An ASGI application that the app is mounted in takes this as its lifespan. Nothing else would set the app up:
        ``Starlette(routes=[Mount("/api", app)], lifespan=app.lifespan)``.
        """
        try:
            await self.setup()
        except (ConfigError, FeathersError) as error:
            self._refusal = str(error)
            raise
        try:
            yield
        finally:
            await self.teardown()

    def _each(self, name: str) -> Chain:
        async def each(context: Context) -> None:
            self._is_setup = name == "setup"
            for path, bound in list(self.services.items()):
                await (self._set_up_service(path, bound) if self._is_setup else self._tear_down_service(path, bound))
            if not self._is_setup:
                self._set_up = None

        return each

    async def _tear_down_service(self, path: str, bound: BoundService) -> None:
        """Tear a service down if its setup has ended without an error."""
        if self._set_up is None or path in self._set_up:
            await _lifecycle(bound, "teardown", path)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[..., Awaitable[Any]],
        send: Callable[..., Awaitable[None]],
    ) -> None:
        if self.transport is None:
            raise RuntimeError("The app has no transport: call app.configure(rest) before serving it")
        if scope["type"] == "lifespan":
            send = self._brief(send)
        await self.transport(scope, receive, send)

    def _brief(self, send: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Tell the server in one line why the app does not start, if an operator can fix it."""

        async def brief(message: dict[str, Any]) -> None:
            if message["type"] == "lifespan.startup.failed" and self._refusal is not None:
                message = {**message, "message": self._refusal}
            await send(message)

        return brief


async def _lifecycle(bound: BoundService, name: str, path: str) -> None:
    function = getattr(bound.service, name, None)
    if function is not None and isawaitable(returned := function(bound._app, path)):
        await returned
