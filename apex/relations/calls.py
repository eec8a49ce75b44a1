"""Calls of related services, with the rights of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apex.context import Context, Params
from apex.errors import Forbidden, MethodNotAllowed, NotAuthenticated, NotFound
from apex.types import Row

if TYPE_CHECKING:
    from apex.app import Apex

REFUSALS = (Forbidden, MethodNotAllowed, NotAuthenticated, NotFound)
"""The errors of a related service for a caller that may not read its records."""

_OF_CALLER = ("provider", "headers", "ip", "authentication", "verified_proof", "connection")
_OF_ONE_REQUEST = frozenset({"idempotency-key", "if-match"})
"""Headers that are about the request itself, and not about its caller."""


def caller_params(context: Context) -> dict[str, Any]:
    """Return the params with which a call of another service has the rights of this caller. It has no query yet.

    The proof of the caller goes along. The other service may refuse the way to log in, but it need not verify the proof
    again. A call inside the process has no caller, and its calls have none either. ``is_inner_call`` tells hooks that
    count requests that the call is a part of another one.
    """
    return rights_of(context.app, context.params)


def rights_of(app: Apex, params: Params) -> dict[str, Any]:
    """Return the params of ``caller_params`` for a call with these params."""
    authentication = app.get("defaultAuthentication")
    entity = getattr(authentication, "entity", None) or "user"
    names = (*_OF_CALLER, entity) if "authentication" in params else (*_OF_CALLER, entity, "authenticated")
    own: Row = {name: params[name] for name in names if name in params}
    if headers := own.get("headers"):
        own["headers"] = {name: value for name, value in headers.items() if name.lower() not in _OF_ONE_REQUEST}
    return {**own, "is_inner_call": True}


def caller_anew(app: Apex, params: Params) -> dict[str, Any]:
    """Return the params of ``rights_of``, with the proof of the caller as it was sent, so that it is verified anew."""
    own = rights_of(app, params)
    known = own.pop("verified_proof", None)
    return own if known is None else {**own, "authentication": known.proof}
