"""The application: the registry of services and hooks, and the entry of every call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from typing import Any, Unpack

from apex.callbacks import Callbacks, Emitter
from apex.context import Context, current_call, external_call
from apex.errors import ConfigError, FeathersError
from apex.events import EVENTS, AnyPublisher, EventLog, Events
from apex.hooks import LIFECYCLE, AnyHooks, HookStore, Step, Steps, enclose, run, steps_of
from apex.permissions.hook import require_authorize
from apex.permissions.policy import Policy
from apex.realtime.bus import Bus
from apex.realtime.channels import NamedChannel
from apex.registration import LateSetup, options_of
from apex.router import Match, Router, split
from apex.service import BoundService, Call, Service, ServiceOptions
from apex.signatures import is_async, name_of
from apex.tenant import NO_TENANTS, current_tenants
from apex.transaction import after_commit
from apex.types import STANDARD, ASGIApp, Message, Receive, Scope, Send

__all__ = ["Apex"]

log: logging.Logger = logging.getLogger("apex")


class Apex(Emitter):
    """A Feathers application, which is an ASGI application at the same time.

    ::

        app = Apex({"paginate": {"default": 10, "max": 50}})
        app.configure(rest).use("messages", Messages())

    ``settings`` holds what ``get`` and ``set`` read and write.
    """

    def __init__(self, settings: Mapping[str, Any] | None = None) -> None:
        self.callbacks: Callbacks = Callbacks()
        super().__init__(self.callbacks)
        self.settings: dict[str, Any] = dict(settings or {})
        self.services: dict[str, BoundService] = {}
        self.router: Router[BoundService] = Router()
        self.store: HookStore = HookStore()
        self.lifecycle: dict[str, Steps] = dict.fromkeys(LIFECYCLE, ())
        self.parsers: list[Callable[[Mapping[str, str]], dict[str, Any] | None]] = []
        self.transport: ASGIApp | None = None
        self.routes: list[Any] = []
        """Starlette routes for paths that no service answers: ``app.routes.append(Route("/hello", hello))``.

        ``rest`` serves them, whether they are added before it or after it.
        """
        self.mounts: dict[str, ASGIApp] = {}
        """ASGI applications by the first segment of the paths that they answer in place of the transport."""
        self.events: Events = Events(self)
        self.bus: Bus = Bus()
        self.log: EventLog | None = None
        self.default_service: Callable[[str], Any] | None = None
        self._is_setup = False
        self._config_error: str | None = None
        self._set_up: set[str] | None = None

    def get(self, name: str) -> Any:
        """Return a setting, or None if it is not set."""
        return self.settings.get(name)

    def set(self, name: str, value: Any) -> Apex:
        """Set a setting, and return the app."""
        self.settings[name] = value
        return self

    def configure(self, function: Callable[[Apex], Any]) -> Apex:
        """Call a function with the app, such as ``rest``, and return the app. Raises TypeError for an ``async def``."""
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
        """Return the channel of a name, or several channels as one. Raises ValueError without a name."""
        return self.events.channels.named(*names)

    def publish(self, event: str | AnyPublisher, publisher: AnyPublisher | None = None) -> Apex:
        """Register a publisher for the services that have none of their own for the event."""
        self.events.publishers.register(event, publisher)
        return self

    def use(self, path: str, service: Any, *, hooks: AnyHooks | None = None, **options: Unpack[ServiceOptions]) -> Apex:
        """Register a service under a path, which may hold placeholders such as ``groups/:groupId/members``.

        The options are ``methods``, ``events``, ``multi``, ``errors`` and ``body_limits``. With ``multi`` a ``create``
        takes a list. ``errors`` is a function that returns the body of a REST response for a FeathersError, for an API
        whose errors have a form of their own. ``body_limits`` maps methods to the bytes that their bodies may have
        beyond ``bodyLimit``. If the service is another ``Apex``, all of its services are added below the path.

        Raises ValueError for a path that is taken, a service without methods or a protected name, and TypeError for a
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
        if (permissions := getattr(service, "permissions", None)) is not None:
            bound._policy = Policy(bound, permissions)
        self._register(path, bound)
        return self

    def _register(self, path: str, bound: BoundService) -> None:
        self.router.insert(path, bound)
        self.services[path] = bound
        if self._is_setup:
            bound._late_setup = LateSetup(self, path, bound)
            self._forget_steps()

    def service(self, path: str) -> BoundService:
        """Return the service registered under a path. Raises LookupError if there is none.

        A type checker learns the type of its records from a declaration::

            messages: BoundService[Message] = app.service("messages")
        """
        found = self.services.get(path)
        if found is not None:
            return found
        path = path.strip("/") or "/"
        if path not in self.services and self.default_service is not None:
            self.use(path, self.default_service(path))
        if path not in self.services:
            raise LookupError(f"Can not find service '{path}'")
        return self.services[path]

    async def unuse(self, path: str) -> BoundService:
        """Tear a service down and remove it. Raises LookupError if there is none."""
        path = path.strip("/") or "/"
        bound = self.service(path)
        await self._tear_down_service(path, bound)
        del self.services[path]
        self.router.remove(path)
        return bound

    def hooks(self, hooks: AnyHooks) -> Apex:
        """Register hooks for all services, or around hooks for ``setup`` and ``teardown``.

        The page of ``apex.hooks`` gives the order in which they run.

        Hooks may name the methods of Feathers and the custom methods of all services. They may also name a method of a
        service that is registered later: ``setup`` raises ValueError if no service has it. Raises ValueError for a name
        that is similar to a known one, and TypeError for a function that cannot be a hook in its place.
        """
        if isinstance(hooks, Mapping) and any(name in LIFECYCLE for name in hooks):
            for name, functions in hooks.items():
                if name not in LIFECYCLE:
                    raise ValueError(f"'{name}' is not a lifecycle hook: register it in a call of its own")
                self.lifecycle[name] += steps_of("around", functions, f"in {name} of the app")
            return self
        self.store.add(hooks, self._methods, later=not self._is_setup)
        self._forget_steps()
        return self

    def _forget_steps(self) -> None:
        """Have the steps of all methods put together anew: they depend on the hooks of the app and on its services."""
        for bound in self.services.values():
            bound._steps.clear()

    @property
    def _methods(self) -> Iterator[str]:
        """The methods of Feathers and the custom methods of the services."""
        own = (method for bound in self.services.values() for method in bound._hookable)
        return iter(dict.fromkeys((*STANDARD, *own)))

    def lookup(self, segments: Sequence[str], spelled: Sequence[str] | None = None) -> Match[BoundService] | None:
        """Return the service for the decoded segments of a path, with placeholders and id, or None.

        ``spelled`` are the segments as they are in the URL.
        """
        return self.router.lookup(segments, spelled)

    async def call(self, call: Call) -> Context:
        """Run the hooks and the method of a call, send its event, and return its context.

        The params belong to this call alone and may be changed. Raises the error of the call.
        """
        bound, method, params = call.service, call.method, call.params
        if isinstance(call.data, list) and method in STANDARD:
            bound._refuse_list(method, params)
        context = Context(
            bound._app, bound, method, id=call.id, data=call.data, params=params, event=EVENTS.get(method),
            around_method=call.around_method,
        )  # fmt: skip
        is_external = params.get("provider") is not None
        outer, token = current_call.get(), current_call.set(context)
        tenants = external = None
        if is_external:
            # A call from outside reaches no tenant's rows until a hook has found out who the caller is.
            tenants = current_tenants.set(NO_TENANTS)
            outermost = external_call.get()
            if outermost is None or not outermost.is_running:
                external = external_call.set(context)
        try:
            await run(bound._steps[method], context)
        except BaseException:
            if context.turn is not None:
                context.turn.end()
            raise
        finally:
            context.is_running = False
            current_call.reset(token)
            if tenants is not None:
                current_tenants.reset(tenants)
            if external is not None:
                external_call.reset(external)
        events = bound._app.events
        if context.event is not None or context.turn is not None:
            await events.announce(context._announced or context)
        if context.emitted is not None:
            for sending in context.emitted:
                await sending
        if events.handed < events.sent and is_external:
            await events.hand_over()
        if context.deferred:
            after_commit(partial(context.close, outer))
        else:
            context.is_open = False
        return context

    async def setup(self) -> Apex:
        """Run ``setup(app, path)`` of each service, in the order in which they were registered.

        If one fails, the services that were set up are torn down before its error is raised.
        """
        for app in {self, *(bound._app for bound in self.services.values())}:
            app.store.require_methods(app._methods)
        self._forget_steps()
        self.callbacks.open()
        self._set_up = set()
        try:
            if self.log is None:
                self.bus.on("event", self.events.deliver)
            else:
                self.log.follow(self.events.follow)
            await self._run_lifecycle("setup")
            await self.bus.open()
        except BaseException:
            try:
                await self.teardown()
            except Exception:
                log.exception("The teardown after a setup that failed has failed too")
            raise
        return self

    async def teardown(self) -> Apex:
        """Wait for running callbacks, and run ``teardown(app, path)`` of each service in the order of ``setup``."""
        self.emit("shutdown")
        await self.callbacks.drain()
        await self.bus.close()
        await self._run_lifecycle("teardown")
        return self

    async def _run_lifecycle(self, name: str) -> None:
        async def each(context: Context) -> None:
            self._is_setup = name == "setup"
            for path, bound in list(self.services.items()):
                await (self._set_up_service(path, bound) if self._is_setup else self._tear_down_service(path, bound))
            if not self._is_setup:
                self._set_up = None

        context = Context(self, None, name)
        await run(enclose(self.lifecycle[name], (Step("around", each, True),)), context)
        context.close(None)
        context.start_deferred()

    async def _set_up_service(self, path: str, bound: BoundService) -> None:
        require_authorize(bound)
        await _lifecycle(bound, "setup", path)
        if self._set_up is not None:
            self._set_up.add(path)

    async def _tear_down_service(self, path: str, bound: BoundService) -> None:
        """Tear a service down if its setup has ended without an error."""
        if self._set_up is None or path in self._set_up:
            await _lifecycle(bound, "teardown", path)

    @asynccontextmanager
    async def lifespan(self, outer: Any = None) -> AsyncIterator[None]:
        """Set the app up, and tear it down at the end.

        An ASGI application that the app is mounted in takes this as its lifespan. Nothing else would set the app up::

            Starlette(routes=[Mount("/api", app)], lifespan=app.lifespan)
        """
        try:
            await self.setup()
        except (ConfigError, FeathersError) as error:
            self._config_error = str(error)
            raise
        try:
            yield
        finally:
            await self.teardown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application, by the mounted application for the path or by the transport."""
        transport = self.transport
        if scope["type"] == "lifespan":
            send = self._with_short_message(send)
        elif self.mounts:
            path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
            transport = self.mounts.get(path[1:].partition("/")[0], transport)
        if transport is None:
            raise RuntimeError("The app has no transport: call app.configure(rest) before serving it")
        await transport(scope, receive, send)

    def _with_short_message(self, send: Send) -> Send:
        """Return a ``send`` that tells the server in one line why the app does not start, if an operator can fix it."""

        async def send_short(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed" and self._config_error is not None:
                message = {**message, "message": self._config_error}
            await send(message)

        return send_short


async def _lifecycle(bound: BoundService, name: str, path: str) -> None:
    function = getattr(bound.service, name, None)
    if function is not None and isawaitable(returned := function(bound._app, path)):
        await returned
