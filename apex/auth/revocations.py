"""The table of revoked tokens, and the service that stores them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Column, MetaData, String, Table

from apex.app import Apex
from apex.sql.service import SQLService
from apex.sql.types.columns import Timestamp
from apex.types import Row

__all__ = ["revoked_tokens_table", "serve_revocations"]

PATH: str = "revoked-tokens"


def revoked_tokens_table(metadata: MetaData) -> Table:
    """Return the table of revoked tokens, for ``AuthenticationService(app, revocations=table)``.

    ``jti`` is the id of a token, or ``before:<seconds since 1970>:<id of the user>`` for all tokens of a user up to a
    moment. A row can be deleted at ``expires_at``, when the tokens have expired.
    """
    return Table(
        "revoked_tokens",
        metadata,
        Column("jti", String(100), primary_key=True),
        Column("expires_at", Timestamp, nullable=False),
    )


class RevokedTokens(SQLService[Row]):
    """The revoked tokens. Callers outside cannot reach them."""

    id = "jti"
    multi: bool | Sequence[str] = ("remove",)
    methods: Sequence[str] | None = ()
    logged: bool = False


def serve_revocations(app: Apex, table: Table) -> str:
    """Register the service of a table of revoked tokens, and return its path."""
    app.use(PATH, RevokedTokens(table))
    return PATH
