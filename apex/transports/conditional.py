"""Conditional requests: ETags, and changes that are made only if a record is as the caller knows it (``If-Match``)."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from apex.app import Apex
from apex.context import Context, Params
from apex.encoding import encode
from apex.errors import BadRequest, PreconditionFailed
from apex.service import Call
from apex.transaction import transaction_of

_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')

CHANGES = ("update", "patch", "remove")
"""The methods that take ``If-Match``."""


def tag_of(body: bytes) -> str:
    """Return the strong entity tag of a body (RFC 9110, 8.8.3)."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def is_among(tag: str, header: str) -> bool:
    """Return True if a header names the tag, strong or weak, or any tag. Proxies that compress make tags weak."""
    return header.strip() == "*" or tag in _TAG.findall(header)


def on_condition(app: Apex, call: Call, tags: str) -> Call:
    """Return the call for a request with ``If-Match`` (RFC 9110, 13.1.1): the record must have one of the tags.

    The record is the one that ``get`` shows for the query of the call. It is read after all hooks that run before the
    method, with a lock and in one transaction with the method. So a call that hooks refuse takes no connection. If a
    hook sets the result, such as the stored answer to a repeated ``Idempotency-Key``, nothing is compared. The call of
    ``get`` has ``params.is_precondition``, for hooks that count the requests of callers.

    Raises BadRequest for a call without an id and for a service without ``get``.
    """
    if call.id is None or "get" not in call.service._options.methods:
        raise BadRequest("If-Match is for one record, which can be asked for with get")
    params = Params({**call.params, "adapter": {"lock": True}, "is_precondition": True})
    get = Call(call.service, "get", call.id, None, params)

    async def compare_and_change(method: Callable[[], Awaitable[Any]]) -> Any:
        async with transaction_of(app, call.service.service):
            if not is_among(_shown_tag(await app.call(get)), tags):
                raise PreconditionFailed("The record is not the one that you know: get it again, and decide anew")
            return await method()

    return replace(call, around_method=compare_and_change)


def _shown_tag(context: Context) -> str:
    """Return the tag of the answer to a call: the ``ETag`` that a hook has set, or that of the body."""
    headers = (context.http or {}).get("headers") or {}
    own = next((value for name, value in headers.items() if name.lower() == "etag"), None)
    return tag_of(encode(context._outgoing)) if own is None else str(own)
