"""The files of ``deploy/`` hold together, as far as that shows without a machine of their own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from apex.cli import apex
from tests.process.commands import ROOT

DEPLOY = ROOT / "deploy"
COMMANDS = set(apex.commands)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None and "CI" not in os.environ, reason="needs systemd-analyze")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "apex.service").read_text(encoding="utf-8").replace("/opt/apex/.venv/bin/apex", sys.executable)
    (tmp_path / "apex.service").write_text(unit, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "apex.service"], capture_output=True, text=True)
    assert [line for line in done.stderr.splitlines() if "apex.service" in line] == []


def test_the_containers_wait_for_services_that_there_are_and_run_commands_that_there_are() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {name for service in services.values() for name in service.get("depends_on", ())} <= set(services)
    for service in services.values():
        program, command, *_ = service.get("command", ["apex", "serve"])
        assert program != "apex" or command in COMMANDS


def test_the_proxy_of_the_containers_leads_to_them() -> None:
    command = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["nginx"]["command"][-1]
    nginx = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    for old, new in re.findall(r"s/([^/]+)/([^/]+)/", command):
        assert old in nginx
        nginx = nginx.replace(old, new)
    assert set(re.findall(r"server (\S+);", nginx)) == {"one:3030", "two:3030"}
