"""``apex generate service`` in a project with tenants: the records of a service belong to organizations."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.test_generate import generated
from tests.cli.test_new import contents, run
from tests.process.commands import apex_here_for, apex_here_in


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with services that refer to each other, within an organization."""
    assert apex_here_in(tmp_path, "new", "shop", "--tenants").returncode == 0
    shop = tmp_path / "shop"
    apex_here_in(shop, "generate", "service", "tags", "name:string(8)!:unique")
    apex_here_in(shop, "generate", "service", "categories")
    apex_here_in(shop, "generate", "webhooks")
    generated(shop, "products", "title:string!", "sku:integer!:unique", "price:decimal=0", "mail:email",
              "status:enum(draft,live)=draft", "category:belongs_to!", "seller:belongs_to(memberships)",
              "parent:belongs_to(products)", "supplier:belongs_to(organizations)", "message:belongs_to:unique",
              "tags:many_to_many", "similar:many_to_many(products)")  # fmt: skip
    generated(shop, "reviews", "text:text!", "product:belongs_to!")
    return shop


def test_its_services_pass_lint_types_tests_and_attacks(shop: Path, postgres_server: str) -> None:
    for tool in (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), ("pytest", "-q", "-W", "error")):
        done = run(shop, sys.executable, "-m", *tool)
        assert done.returncode == 0, done.stdout + done.stderr
    url = f"{postgres_server}/shop_test"
    done = run(shop, sys.executable, "-m", "pytest", "-q", "-W", "error", TEST_DATABASE_URL=url)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_database_keeps_its_tenants_apart(shop: Path, postgres_url: str) -> None:
    for command, expected in (
        (("migrate",), ""),
        (("check",), "Nothing is wrong.\n"),
        (("migrate", "--down", "0001"), ""),
    ):
        done = apex_here_for(shop, *command, DATABASE_URL=postgres_url)
        assert (done.returncode, expected in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("word", "rule"),
    [
        ("organization_id:integer", "every service has the field 'organization_id' already: leave it out"),
        ("organization:belongs_to", "every service has the field 'organization_id' already: leave it out"),
        ("owner:belongs_to(users)", "refer to a member instead, such as owner:belongs_to(memberships)"),
        ("seller:belongs_to(memberships)!", "tests/test_attacks.py has no line for it"),
    ],
)
def test_what_would_leave_the_organization_is_refused(tmp_path: Path, word: str, rule: str) -> None:
    assert apex_here_in(tmp_path, "new", "shop", "--tenants").returncode == 0
    before = contents(tmp_path / "shop")
    done = apex_here_for(tmp_path / "shop", "generate", "service", "things", word)
    assert (done.returncode, rule in done.stderr) == (1, True), done.stderr
    assert (len(done.stderr.splitlines()), contents(tmp_path / "shop")) == (1, before)


def test_a_test_of_attacks_that_is_gone_is_left_alone(tmp_path: Path) -> None:
    assert apex_here_in(tmp_path, "new", "shop", "--tenants").returncode == 0
    attacks = tmp_path / "shop/tests/test_attacks.py"
    attacks.write_text("RECORDS = None\n")
    done = apex_here_in(tmp_path / "shop", "generate", "service", "things", "name:string!")
    assert (done.returncode, "has no 'RECORDS = {' with a line for each service" in done.stderr) == (1, True)
    attacks.unlink()
    assert apex_here_in(tmp_path / "shop", "generate", "service", "things", "name:string!").returncode == 0
    assert not attacks.exists()
