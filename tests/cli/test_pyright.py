"""Pyright, in its strict mode, finds nothing in what ``apex new`` and ``apex generate`` write, and in what users write.

It runs once for all of them, as it reads the libraries for longer than the rest.
"""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

from tests.cli.test_generate import EVERYTHING, generated, tracker
from tests.cli.test_generate_tenants import shop
from tests.cli.test_new import KINDS, project
from tests.core.test_types import RIGHT, pages
from tests.interop.node import check_types, needs_node
from tests.process.commands import apex_here_in

__all__ = ["project", "shop", "tracker"]

LEFT_OUT = dict.fromkeys(
    (
        "reportMissingParameterType",
        "reportUnknownArgumentType",
        "reportUnknownLambdaType",
        "reportUnknownMemberType",
        "reportUnknownParameterType",
        "reportUnknownVariableType",
    ),
    False,
)
"""The rules of pyright that ask for the types that pages leave out."""

ACCEPTED = {
    ("docs_client_md", "reportArgumentType"): "it passes the methods of a class on, which may be None",
    ("docs_cookbook_md", "reportArgumentType"): "it passes a dict of keywords to httpx2",
    ("docs_cookbook_md", "reportPossiblyUnboundVariable"): "its loop runs at least once",
    ("docs_guide_databases_md", "reportIncompatibleMethodOverride"): "its processors have no types",
    ("docs_services_md", "reportUnusedVariable"): "the next block uses it",
}
"""The pages that pyright objects to, with the rule and the reason."""

OBJECTION = re.compile(r"(\w+?)(?:_\d+)?\.py:\d+ (\w+): .*", re.S)


@needs_node
def test_pyright_finds_nothing_in_any_project_or_page(tracker: Path, shop: Path, tmp_path: Path) -> None:
    kinds = ("tenants", "bare", "bare_sqlite")
    for kind in kinds:
        assert apex_here_in(tmp_path, "new", kind, *KINDS[kind]).returncode == 0
    generated(tracker, "everything", *EVERYTHING)
    hooks = [("hook", f"{kind}_calls", "--type", kind) for kind in ("around", "before", "after", "error")]
    for arguments in (("service", "blog-posts"), ("webhooks",), *hooks, ("migration", "Index of names")):
        assert apex_here_in(tracker, "generate", *arguments).returncode == 0
    (tmp_path / "users").mkdir()
    for name, text in {**RIGHT, **pages()}.items():
        (tmp_path / "users" / f"{name}.py").write_text(dedent(text), encoding="utf-8")
    errors = check_types(tmp_path, tracker.name, shop.name, *kinds, users=LEFT_OUT)
    unexpected = [
        error for error in errors if (it := OBJECTION.fullmatch(error)) is None or it.groups() not in ACCEPTED
    ]
    assert unexpected == []
