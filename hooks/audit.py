"""The audit of the CRM: the fields of an entry that tell who has changed a record, and of which organization it is."""

from __future__ import annotations

from typing import Any

from apex import Context, common
from apex.context import external_call
from apex.types import Row
from hooks.tenancy import ORGANIZATION_ID

API = "achieveapex"
"""The API of a service that has no class attribute ``api``."""


def caller_fields(context: Context) -> Row:
    """Return the fields about the caller of the outermost call.

    Without a call from outside, as in a command, the user is the one that the command works for.
    """
    external = external_call.get()
    if external is None:
        user = context.params.user
        return {"user_id": user["id"]} if user else {}
    params: Any = external.params
    return {
        "user_id": (params.user or {}).get("id"),
        "key_id": (params.authentication or {}).get("key_id"),
        "api": getattr(external.service, "api", API),
        "provider": params.provider,
        "request_id": (params.headers or {}).get("x-request-id"),
    }


def organization_field(context: Context, row: Row) -> Row:
    """Return the organization of a record. A record without one is an organization itself."""
    return {ORGANIZATION_ID: row[ORGANIZATION_ID] if ORGANIZATION_ID in row else row[context.service.id]}


audit = common.audit(caller=caller_fields, record=organization_field)
