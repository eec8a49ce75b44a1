"""The CRM for the tests of its security."""

from __future__ import annotations

from tests.services.fixtures import crm, demo_file, shared, shared_url

__all__ = ["crm", "demo_file", "shared", "shared_url"]
