"""Changes that are made only while a record is as its caller knows it: ``If-Match`` (RFC 9110, 13.1.1)."""

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


def tag_of(body: bytes) -> str:
    """The strong tag of a body."""
    return f'"{sha256(body).hexdigest()[:32]}"'


def is_among(tag: str, header: str) -> bool:
    """Whether a tag is one of a header's, or any tag will do. A proxy that compresses may have made it a weak one."""
    return header.strip() == "*" or tag in _TAG.findall(header)


CHANGES = ("update", "patch", "remove")


def on_condition(app: Apex, call: Call, tags: str) -> Call:
    """Return the call with a precondition: the record that ``get`` shows for its query has one of the tags.

    It is checked after all hooks that run before the method, in one unit of work with the method and with the record
    locked. So a call that hooks refuse takes no connection. A call whose result a hook sets, such as the answer to a
    repeated ``Idempotency-Key``, is not compared with its own change. The call of ``get`` has
    ``params.is_precondition``, for hooks that count what callers ask for.

    Raises BadRequest for a call without an id and for a service without ``get``.
    """
    if call.id is None or "get" not in call.service._options.methods:
        raise BadRequest("If-Match is for one record, which can be asked for with get")
    params = Params({**call.params, "adapter": {"lock": True}, "is_precondition": True})
    asked = Call(call.service, "get", call.id, None, params)

    async def change(method: Callable[[], Awaitable[Any]]) -> Any:
        async with transaction_of(app, call.service.service):
            if not is_among(_shown_tag(await app.call(asked)), tags):
                raise PreconditionFailed("The record is not the one that you know: get it again, and decide anew")
            return await method()

    return replace(call, precondition=change)


def _shown_tag(context: Context) -> str:
    """Return the tag of the answer to a call: the ``ETag`` that a hook has set, else that of the body."""
    headers = (context.http or {}).get("headers") or {}
    own = next((value for name, value in headers.items() if name.lower() == "etag"), None)
    return tag_of(encode(context._outgoing)) if own is None else str(own)
