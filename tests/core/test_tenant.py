"""The tenants of a call, and the former names of what sets them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import apex.tenant
from apex.migrations import row_level_security
from apex.tenant import (
    ALL_TENANTS,
    NO_TENANTS,
    current_tenants,
    is_tenant_hook,
    set_tenants,
    tenant_context,
    tenant_hook,
)


def test_work_inside_the_process_is_for_all_tenants() -> None:
    assert current_tenants.get() == ALL_TENANTS


def test_a_context_ends_with_what_was_set_in_it() -> None:
    with tenant_context(NO_TENANTS):
        set_tenants([7, 9])
        assert current_tenants.get() == "7,9"
        with tenant_context(ALL_TENANTS):
            assert current_tenants.get() == ALL_TENANTS
        assert current_tenants.get() == "7,9"
    assert current_tenants.get() == ALL_TENANTS


def test_a_hook_is_marked() -> None:
    def limit(context: Any) -> None: ...

    assert not is_tenant_hook(limit)
    assert tenant_hook(limit) is limit
    assert is_tenant_hook(limit)


FORMER = {
    "EVERYONE": ALL_TENANTS,
    "NOBODY": NO_TENANTS,
    "is_sealing": is_tenant_hook,
    "reach_of_call": current_tenants,
    "reaching": tenant_context,
    "sealing": tenant_hook,
}


@pytest.mark.parametrize("name", FORMER)
def test_former_names_work_with_a_warning(name: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"apex.tenant.{name} is "):
        assert getattr(apex.tenant, name) is FORMER[name]


def test_the_former_function_reach_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"current_tenants\.get\(\)") as caught:
        assert apex.tenant.reach() == ALL_TENANTS  # type: ignore[attr-defined]
    assert caught[0].filename == __file__


def test_the_former_function_confine_takes_its_former_parameter() -> None:
    with tenant_context(NO_TENANTS):
        with pytest.warns(DeprecationWarning, match=r"set_tenants\(ids\)") as caught:
            apex.tenant.confine(tenants=[7, 9])  # type: ignore[attr-defined]
        assert caught[0].filename == __file__
        assert current_tenants.get() == "7,9"


def test_another_name_is_none() -> None:
    with pytest.raises(AttributeError, match=r"module 'apex\.tenant' has no attribute 'sealed'"):
        apex.tenant.sealed  # type: ignore[attr-defined]  # noqa: B018


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that the functions for migrations run on PostgreSQL."""
    run: list[str] = []
    bind = SimpleNamespace(dialect=SimpleNamespace(name="postgresql"))
    monkeypatch.setattr(row_level_security, "op", SimpleNamespace(get_bind=lambda: bind, execute=run.append))
    return run


@pytest.mark.parametrize(
    ("former", "present", "arguments"),
    [
        ("seal", "enable_row_level_security", ("notes", "id")),
        ("reseal", "renew_row_level_security", ("notes", "id")),
        ("unseal", "disable_row_level_security", ("notes",)),
        ("seal_where", "enable_row_level_security_where", ("notes", "public")),
        ("prepare_seals", "prepare_row_level_security", ()),
        ("remove_seals", "remove_row_level_security", ()),
    ],
)
def test_migrations_of_before_run_the_same_statements(
    statements: list[str], former: str, present: str, arguments: tuple[str, ...]
) -> None:
    getattr(row_level_security, present)(*arguments)
    expected = statements[:]
    statements.clear()
    with pytest.warns(DeprecationWarning, match=f"{former} is "):
        getattr(row_level_security, former)(*arguments)
    assert statements == expected != []


@pytest.mark.parametrize("former", ["seal", "reseal"])
def test_migrations_of_before_may_leave_out_the_column(statements: list[str], former: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"{former} is "):
        getattr(row_level_security, former)("notes")
    assert "organization_id = " in statements[-1]
