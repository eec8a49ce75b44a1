"""The CRM, with a service that returns the modules that its process has loaded."""

from __future__ import annotations

import sys
from typing import Any

from apex import Apex
from services import app as crm


class Loaded:
    async def find(self, params: Any) -> list[str]:
        return sorted(sys.modules)


def create_app() -> Apex:
    app = crm.create_app()
    app.use("loaded", Loaded())
    return app
