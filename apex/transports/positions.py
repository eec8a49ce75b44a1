"""The filter ``$position`` of find, which puts the position in the log into the page."""

from __future__ import annotations

from apex.context import Context
from apex.encoding import encode
from apex.errors import BadRequest
from apex.service import Call

POSITION = "$position"


def pop_position(call: Call) -> bool:
    """Take ``$position`` out of a query, and return True if the caller asks for it. Raises BadRequest."""
    query = call.params.query
    if POSITION not in query:
        return False
    value = query[POSITION]
    if call.method != "find" or value not in (True, False, "true", "false"):
        rule = "is for find" if call.method != "find" else "must be true or false"
        raise BadRequest(f"{POSITION} {rule}")
    call.params.query = {name: one for name, one in query.items() if name != POSITION}
    return value in (True, "true")


def with_position(page: bytes, context: Context) -> bytes:
    """Return a page in JSON with the ``position`` from which a client can follow. Raises BadRequest."""
    if not page.startswith(b"{"):
        raise BadRequest(f"{POSITION} needs a page, and find of '{context.path}' answers with a list")
    position = encode(None if context.position is None else str(context.position))
    return b'%s%s"position":%s}' % (page[:-1], b"," if len(page) > 2 else b"", position)
