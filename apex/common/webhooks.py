"""Signed webhooks: only a sender that knows the secret can send them, and nobody can send one again.

The header ``x-webhook-signature`` is ``t=1767225600,v1=<hex>``. ``t`` is the time in seconds since 1970. ``v1`` is the
hexadecimal HMAC-SHA256 (RFC 2104) of that text, a dot and the body.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, MetaData, String, Table, bindparam, delete
from sqlalchemy.dialects import postgresql, sqlite

from apex.context import Context
from apex.describe import describe
from apex.errors import FeathersError, NotAuthenticated
from apex.hooks import Next, keeps_result
from apex.sql.database import Database
from apex.sql.types.columns import Timestamp
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row

HEADER = "x-webhook-signature"
TOLERANCE = 300
"""The seconds by which the time of a signature may differ from the present time."""

_HEADER = re.compile(r"t=([0-9]{1,12}(?:\.[0-9]{1,6})?)((?:,v1=[0-9a-f]{64}){1,4})")
_SENDS = {
    HEADER: {
        "schema": {"type": "string"},
        "description": "`t=<seconds since 1970>,v1=<hex>` where webhooks are signed: the HMAC-SHA256 of `<t>.<body>`.",
    }
}


class InvalidSignature(NotAuthenticated):
    """The error for a webhook with a wrong, outdated or used signature."""


def sign(secret: str, body: bytes, moment: float | None = None) -> str:
    """Return the value of the header for a body. Sign each request anew, also one that you repeat.

        headers = {"x-webhook-signature": sign(secret, body)}

    ``moment`` is the time in seconds since 1970, by default the present time.
    """
    written = f"{time.time() if moment is None else moment:.6f}"
    return f"t={written},v1={_digest(secret, written, body)}"


def signatures_table(metadata: MetaData, *columns: Column[Any]) -> Table:
    """Return the table of used signatures. ``columns`` are further columns, such as that of the tenant."""
    table = Table(
        "webhook_signatures",
        metadata,
        Column("signature", String(64), primary_key=True),
        Column("used_at", Timestamp, nullable=False),
        *columns,
    )
    Index("ix_webhook_signatures_used_at", table.c.used_at)
    return table


class SignedWebhooks:
    """The hooks of a service that takes webhooks: ``verify`` before its methods, and ``once`` around them.

    ``secret`` returns the secret of the sender of a call, or None if its webhooks are not signed. ``owner`` returns the
    values of the further columns of the ``table``.

        signed = SignedWebhooks(signatures_table(metadata), secret)
        app.use("webhook", Webhook(), hooks={"around": {"create": [run_before(signed.verify), signed.once]}})
    """

    def __init__(
        self,
        table: Table,
        secret: Callable[[Context], Awaitable[str | None]],
        owner: Callable[[Context], Row] = lambda context: {},
    ) -> None:
        self.table: Table = table
        self.secret: Callable[[Context], Awaitable[str | None]] = secret
        self.owner: Callable[[Context], Row] = owner
        self._evicted = float("-inf")

    @describe(sends=_SENDS, errors=(401,))
    async def verify(self, context: Context) -> None:
        """Check that the body is signed with the secret, and at this time. Calls inside the process pass.

        Calls of a batch or a socket are refused, as they have no body of their own. Raises InvalidSignature.
        """
        params = context.params
        secret = await self.secret(context) if params.get("provider") else None
        if secret is None:
            return
        if params.get("body") is None:
            raise InvalidSignature("A signed webhook must be a request of its own")
        match = _HEADER.fullmatch((params.headers or {}).get(HEADER, ""))
        expected = "" if match is None else _digest(secret, match[1], params["body"])
        if match is None or not any(hmac.compare_digest(expected, given) for given in match[2].split(",v1=")[1:]):
            raise InvalidSignature("Invalid signature")
        if abs(time.time() - float(match[1])) > TOLERANCE:
            raise InvalidSignature(f"The signature must be made within {TOLERANCE} seconds: is your clock right?")
        params["signature"] = expected

    @keeps_result
    async def once(self, context: Context, next: Next) -> None:
        """Accept each signature once, in all processes: around methods, after ``verify``.

        The signature is stored before the method runs. If the call is refused, it may be used again. After any other
        failure it stays used, as the method may have stored something. Raises InvalidSignature for a used signature.
        """
        signature = context.params.get("signature")
        if signature is None:
            await next()
            return
        database: Database = context.app.get("database")
        await self._evict(database)
        used = {**self.owner(context), "signature": signature, "used_at": datetime.now(UTC)}
        if not await database.execute(self._claim(database, used), used):
            raise InvalidSignature("The signature was used before: sign each request anew")
        try:
            await next()
        except FeathersError as error:
            if error.code < 500:
                await database.execute(delete(self.table).where(self.table.c.signature == signature))
            raise

    def _claim(self, database: Database, used: Row) -> Any:
        dialect: Any = postgresql if database.dialect.name == "postgresql" else sqlite
        bound = {name: bindparam(name, type_=self.table.c[name].type) for name in used}
        insert = dialect.insert(self.table).values(bound).on_conflict_do_nothing()
        return insert.returning(self.table.c.signature)

    async def _evict(self, database: Database) -> None:
        """Delete the signatures that are too old to be used again, once in five minutes."""
        if time.monotonic() < self._evicted + TOLERANCE:
            return
        self._evicted = time.monotonic()
        old = delete(self.table).where(self.table.c.used_at < bindparam("before", type_=Timestamp()))
        with tenant_context(ALL_TENANTS):
            # A sender's clock may be ahead by the tolerance, so a signature can be good for twice as long.
            await database.execute(old, {"before": datetime.now(UTC) - timedelta(seconds=2 * TOLERANCE)})


def _digest(secret: str, moment: str, body: bytes) -> str:
    return hmac.new(secret.encode(), moment.encode() + b"." + body, "sha256").hexdigest()
