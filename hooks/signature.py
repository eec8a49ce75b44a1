"""Webhooks of organizations with a secret, which their senders sign."""

from __future__ import annotations

from sqlalchemy import Table

from apex import Apex, Context
from apex.cache import Cache
from apex.common import SignedWebhooks
from apex.query import Query
from hooks.tenancy import ORGANIZATION_ID


def signed_webhooks(app: Apex, table: Table) -> SignedWebhooks:
    """Return the hooks for webhooks that are signed with the secret of the organization of the caller's API key.

    The secret is cached until the organization changes. While the log cannot be read, it is cached for less than a
    second.
    """

    async def read(organization_id: int) -> tuple[str | None]:  # A tuple, as the cache does not keep None.
        query = Query(select=("webhook_secret",))
        organization = await app.service("organizations").get(organization_id, {"query": query})
        return (organization["webhook_secret"],)

    async def secret(context: Context) -> str | None:
        found = await secrets.get(_organization(context))
        return None if found is None else found[0]

    secrets = Cache(read)
    secrets.follow(app, "organizations", lambda row: row["id"])
    return SignedWebhooks(table, secret, lambda context: {ORGANIZATION_ID: _organization(context)})


def _organization(context: Context) -> int:
    organization_id: int = context.params.authentication[ORGANIZATION_ID]
    return organization_id
