"""The alerts of the page about operations, and the rules for Prometheus with the same alerts."""

from __future__ import annotations

import re
from typing import Any

import yaml

from tests.process.commands import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("## Alerts")[1].split("\n## ")[0]


def alert_of(name: str) -> str:
    return "Apex" + "".join(word[:1].upper() + word[1:] for word in name.split())


def test_the_rules_are_the_alerts_of_the_page() -> None:
    written = re.findall(r"^\| ([\w ]+) \| `(.+)` \| ?(\w*) ?\|$", PAGE, re.M)
    rules: Any = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text(encoding="utf-8"))
    (group,) = rules["groups"]
    assert [(rule["alert"], rule["expr"], rule.get("for", "")) for rule in group["rules"]] == [
        (alert_of(name), expression, span) for name, expression, span in written
    ]
    assert re.findall(r"^- \*\*([\w ]+)\*\*", PAGE, re.M) == [name for name, _, _ in written]


def test_the_brackets_of_each_expression_are_closed() -> None:
    for line in re.findall(r"^\| [\w ]+ \| `(.+)` \|", PAGE, re.M):
        assert [line.count(left) for left in "([{"] == [line.count(right) for right in ")]}"], line
