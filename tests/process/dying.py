"""The CRM in a process that is killed between the commit of a contact and its event, if ``DIE`` is set."""

from __future__ import annotations

import os
import signal
from typing import Any

from apex import Apex
from services.app import create_app as create_crm


def die(contact: Any) -> None:
    if "DIE" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


def create_app() -> Apex:
    app = create_crm()
    app.service("contacts").on("created", die)
    return app
