"""Routes of Starlette next to the services: the app that answers them, with Feathers' errors, and their callers."""

from __future__ import annotations

from inspect import isawaitable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route

from apex.app import Apex
from apex.auth.service import authenticate
from apex.context import Context, Params
from apex.errors import BY_CODE, FeathersError, GeneralError, MethodNotAllowed, NotAuthenticated, NotFound
from apex.limits.clients import address_of
from apex.transports.http import JSON, failure, has_header, headers_of
from apex.types import ASGIApp


def other_routes(app: Apex) -> ASGIApp:
    """Return the ASGI application that answers the paths of no service, and sets the app up and tears it down."""
    handlers = dict.fromkeys((HTTPException, FeathersError, Exception), _answer_error)
    others = Starlette(lifespan=app.lifespan, exception_handlers={**handlers, ClientDisconnect: _answer_nobody})
    # The same list, as plug-ins may add to it later.
    others.router.routes = app.routes
    others.state.apex = app
    return others


async def authenticated(request: Request, *strategies: str) -> Params:
    """Return the params of the caller of a route, with ``user`` and ``authentication``, as hooks have them.

    ::

        async def picture(request):
            caller = await authenticated(request)
            note = await app.service("notes").get(request.path_params["id"], caller)
            return FileResponse(path_of(note, caller.user))

    A service that is called with them treats the call as one from outside, by this caller. It may refuse the caller's
    way to log in, but does not verify the proof again. ``strategies`` are those that may prove who calls, by default
    all of the app. Raises NotAuthenticated, which the route's app answers with a 401, and TypeError for a request of
    another app.
    """
    app: Apex | None = getattr(request.app.state, "apex", None)
    if app is None:
        raise TypeError("authenticated takes the request of a route in app.routes")
    headers = headers_of(request.scope)
    address = address_of(request.scope, headers, app.get("proxies") or 0)
    params = Params({"provider": "rest", "headers": headers, "ip": address})
    for read in app.parsers:
        if (authentication := read(headers)) is not None:
            params["authentication"] = authentication
    service = app.get("defaultAuthentication")
    allowed = strategies or tuple(getattr(service, "strategies", ()))
    if not allowed:
        raise NotAuthenticated("Could not find a valid authentication service")
    context = Context(app, None, "get", params=params)
    checked = authenticate(*allowed)(context)
    if isawaitable(checked):
        await checked
    # Services may refuse this way to log in. They need not verify it again.
    del context.params["authenticated"]
    return context.params


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        error = _as_feathers(error, request)
    if isinstance(error, MethodNotAllowed) and not has_header(error, "allow"):
        routes = [route for route in request.app.routes if isinstance(route, Route)]
        found = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
        verbs = {verb for route in found for verb in route.methods or ()}
        error.headers["Allow"] = ", ".join(sorted(verbs - {request.method}))
    status, headers, body = failure(error, f"{request.method} {request.url.path}")
    named = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    return Response(body, status, named, media_type=JSON)


async def _answer_nobody(_: Request, __: Exception) -> Response:
    """Return a response for a client that has gone while a route read its request. The log gets no error for it."""
    return Response(status_code=400)


def _as_feathers(error: HTTPException, request: Request) -> FeathersError:
    if error.status_code == 404:
        return NotFound(f"Path {request.scope['path']} not found")
    if error.status_code == 405:
        return MethodNotAllowed(f"Method {request.method} not allowed", headers=error.headers)
    return BY_CODE.get(error.status_code, GeneralError)(error.detail, headers=error.headers)
