"""The live page at ``/console/``: static files that speak with this server alone."""

from __future__ import annotations

from pathlib import Path

from starlette.routing import BaseRoute

from apex.transports import page

FOLDER = Path(__file__).parent.parent / "console"


def routes() -> list[BaseRoute]:
    """Routes for ``rest``."""
    return page("/console", FOLDER)
