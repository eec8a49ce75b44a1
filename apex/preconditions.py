"""Changes that are made only while a record is as its caller knows it: ``If-Match`` (RFC 9110, 13.1.1)."""

from __future__ import annotations

from contextlib import nullcontext

from apex.app import Apex
from apex.context import Context, Params
from apex.encoding import encode
from apex.errors import BadRequest, PreconditionFailed
from apex.etags import is_among, tag_of
from apex.service import Call

CHANGES = ("update", "patch", "remove")


async def call_if_match(app: Apex, call: Call, tags: str) -> Context:
    """Makes the call if the record that ``get`` gives for its query has one of the tags, in one unit of work.

    That is found out right before the method, where a hook has not given the result already: what is repeated with its
    ``Idempotency-Key`` has changed the record itself.

    Raises PreconditionFailed, or BadRequest where a service has no ``get`` to compare with.
    """
    if call.id is None or "get" not in call.service._options.methods:
        raise BadRequest("If-Match is for one record, which can be asked for with get")
    asked = Params({**call.params, "adapter": {"lock": True}})

    async def check() -> None:
        known = await app.call(Call(call.service, "get", call.id, None, asked))
        if not is_among(tag_of(encode(known.external)), tags):
            raise PreconditionFailed("The record is not the one that you know: get it again, and decide anew")

    call.params["precondition"] = check
    database = app.get("database")
    async with nullcontext() if database is None else database.transaction():
        return await app.call(call)
