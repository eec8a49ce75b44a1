"""The CRM for the tests of its services."""

from __future__ import annotations

from tests.services.fixtures import crm, demo_database, demo_file, demo_url, shared, shared_url

__all__ = ["crm", "demo_database", "demo_file", "demo_url", "shared", "shared_url"]
