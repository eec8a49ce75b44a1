"""Pyright, in its strict mode, finds nothing in what ``apex new`` and ``apex generate`` write."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_generate import EVERYTHING, generated, tracker
from tests.cli.test_generate_tenants import shop
from tests.cli.test_new import KINDS, project
from tests.interop.node import check_types, needs_node
from tests.process.commands import apex_here_in

__all__ = ["project", "shop", "tracker"]


@needs_node
def test_pyright_finds_nothing_in_any_project(tracker: Path, shop: Path, tmp_path: Path) -> None:
    kinds = ("tenants", "bare", "bare_sqlite")
    for kind in kinds:
        assert apex_here_in(tmp_path, "new", kind, *KINDS[kind]).returncode == 0
    generated(tracker, "everything", *EVERYTHING)
    hooks = [("hook", f"{kind}_calls", "--type", kind) for kind in ("around", "before", "after", "error")]
    for arguments in (("service", "blog-posts"), ("webhooks",), *hooks, ("migration", "Index of names")):
        assert apex_here_in(tracker, "generate", *arguments).returncode == 0
    assert check_types(tmp_path, tracker.name, shop.name, *kinds) == []
