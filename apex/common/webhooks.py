"""Webhooks that are signed: only a sender with the secret can have sent them, each of them once and just now.

The header ``x-webhook-signature`` is ``t=1767225600,v1=<hex>``: the moment in seconds since 1970, and the hexadecimal
HMAC-SHA256 (RFC 2104) of that moment, a dot and the body, byte for byte.
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
from apex.hooks import Next
from apex.sql.columns import Timestamp
from apex.sql.database import Database
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import Row

HEADER = "x-webhook-signature"
TOLERANCE = 300
"""Seconds that the moment of a signature may be before or after now."""

_HEADER = re.compile(r"t=([0-9]{1,12}(?:\.[0-9]{1,6})?)((?:,v1=[0-9a-f]{64}){1,4})")
_SENDS = {
    HEADER: {
        "schema": {"type": "string"},
        "description": "`t=<seconds since 1970>,v1=<hex>` where webhooks are signed: the HMAC-SHA256 of `<t>.<body>`.",
    }
}


class InvalidSignature(NotAuthenticated):
    """A webhook is not signed with the secret, not signed just now, or signed as another one before it."""


def sign(secret: str, body: bytes, moment: float | None = None) -> str:
    """Return the header for a body. Sign each request anew, also one that you repeat.

    headers = {"x-webhook-signature": sign(secret, body)}
    """
    written = f"{time.time() if moment is None else moment:.6f}"
    return f"t={written},v1={_digest(secret, written, body)}"


def signatures_table(metadata: MetaData, *columns: Column[Any]) -> Table:
    """Return the table of the signatures that were used. ``columns`` are further ones, such as that of a tenant."""
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
    """Hooks of a service that takes webhooks: ``verify`` before its methods, and ``once`` around them.

    ``secret`` returns the secret of a call's sender, or None where webhooks are not signed. ``owner`` returns the
    values of the further columns of the ``table``.

        signed = SignedWebhooks(signatures_table(metadata), secret)
        app.use("webhook", Webhook(), hooks={"around": {"create": [ahead(signed.verify), signed.once]}})
    """

    def __init__(
        self,
        table: Table,
        secret: Callable[[Context], Awaitable[str | None]],
        owner: Callable[[Context], Row] = lambda context: {},
    ) -> None:
        self.table, self.secret, self.owner = table, secret, owner
        self._forgotten = float("-inf")

    @describe(sends=_SENDS, errors=(401,))
    async def verify(self, context: Context) -> None:
        """Before methods: the body is signed with the secret, and the moment is now. Calls inside the process pass.

        Only a request has a body that its sender can have signed. So a call of a batch or a socket is refused.
        Raises InvalidSignature.
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

    async def once(self, context: Context, next: Next) -> None:
        """Around methods, after ``verify``: a signature counts once, also in another process and after a restart.

        It is stored before the method runs. A call that is refused has not used it. After any other failure something
        may be stored, so the signature stays used. Raises InvalidSignature for a signature that was used before.
        """
        signature = context.params.get("signature")
        if signature is None:
            await next()
            return
        database: Database = context.app.get("database")
        await self._forget(database)
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

    async def _forget(self, database: Database) -> None:
        """Delete those that are too old to be used again, once in a while."""
        if time.monotonic() < self._forgotten + TOLERANCE:
            return
        self._forgotten = time.monotonic()
        old = delete(self.table).where(self.table.c.used_at < bindparam("before", type_=Timestamp()))
        with tenant_context(ALL_TENANTS):
            # A sender's clock may be ahead by the tolerance, so a signature can be good for twice as long.
            await database.execute(old, {"before": datetime.now(UTC) - timedelta(seconds=2 * TOLERANCE)})


def _digest(secret: str, moment: str, body: bytes) -> str:
    return hmac.new(secret.encode(), moment.encode() + b"." + body, "sha256").hexdigest()
