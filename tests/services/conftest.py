"""The CRM for the tests of its services."""

from __future__ import annotations

from tests.services.fixtures import crm, shared, shared_url

__all__ = ["crm", "shared", "shared_url"]
