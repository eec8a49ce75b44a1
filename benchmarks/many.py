"""The CRM with many additional services, to measure their effect on a call."""

from __future__ import annotations

import os

from apex import Apex, MemoryService
from services.app import create_app as create_crm

MORE = "MORE_SERVICES"


def create_app() -> Apex:
    app = create_crm()
    for number in range(int(os.environ[MORE])):
        app.use(f"notes-{number}/of/each", MemoryService())
    return app
