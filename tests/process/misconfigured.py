"""An application with an unknown key in its configuration."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from apex import Apex, load_config


def create_app() -> Apex:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "default.json").write_text(json.dumps({"prot": 1}))
        return Apex(load_config(folder))
