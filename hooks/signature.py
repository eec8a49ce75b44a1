"""Webhooks that are signed: only who shares a secret with the organization can have sent them."""

from __future__ import annotations

import hmac

from apex import Apex, Context
from apex.describe import describe
from apex.errors import NotAuthenticated
from apex.query import Query
from apex.tenant import reaching
from hooks.tenancy import FIELD

HEADER = "x-webhook-signature"


class InvalidSignature(NotAuthenticated):
    """A webhook is not signed with the organization's secret."""


@describe(sends={HEADER: {"schema": {"type": "string"}, "description": "`sha256=` and the HMAC of the body."}})
async def verify_signature(context: Context) -> None:
    """Before create, after ``authenticate``: where the caller's organization has a webhook secret, the header
    ``x-webhook-signature`` is ``sha256=`` and the hexadecimal HMAC-SHA256 of the body as it was sent.

    Raises InvalidSignature.
    """
    if not context.params.provider:
        return
    secret = await _secret(context.app, context.params.authentication[FIELD])
    if secret is None:
        return
    expected = "sha256=" + hmac.new(secret.encode(), context.params.body or b"", "sha256").hexdigest()
    given = (context.params.headers or {}).get(HEADER, "")
    if not hmac.compare_digest(expected.encode(), given.encode()):
        raise InvalidSignature("Invalid signature")


async def _secret(app: Apex, organization_id: int) -> str | None:
    with reaching(str(organization_id)):
        organization = await app.service("organizations").get(
            organization_id, {"query": Query(select=("webhook_secret",))}
        )
    secret: str | None = organization["webhook_secret"]
    return secret
