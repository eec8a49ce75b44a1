"""Lists with cursors, and totals that are left out or estimated."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio

from tests.services.crm import LIST, Crm, refused
from tests.services.fixtures import SHARED

pytestmark = SHARED

COUNT = 9
BY_COMPANY = f"{LIST}&$sort[company_id]=-1&$sort[first_name]=1"


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def contacts(shared: Crm) -> AsyncIterator[None]:
    """Add nine contacts to the demo's two: three of each company and three without one."""
    await shared.define(Size="number")
    for n in range(COUNT):
        company = [None, 101, 102][n % 3]
        await shared.create(first_name=f"N{n}", company_id=company, custom_fields_by_name={"Size": n})
    yield


async def walked(crm: Crm, request: str, name: str = "$after", user: int = 789) -> list[list[dict[str, Any]]]:
    """Return the pages of a list from one end to the other."""
    pages, cursor = [], ""
    while cursor is not None:
        status, page = await crm.call(f"{request}&{name}={cursor}", user=user)
        assert (status, set(page)) == (200, {"limit", "next", "previous", "data"}), page
        pages.append(page["data"])
        cursor = page["next" if name == "$after" else "previous"]
    return pages


@pytest.mark.parametrize("sort", ["", "&$sort[created_at]=-1", "&$sort[company_id]=1", "&$sort[email]=-1&$sort[id]=1"])
async def test_a_walk_meets_every_contact_in_the_order_of_the_list(shared: Crm, sort: str) -> None:
    _, listed = await shared.call(f"{LIST}{sort}&$limit=100")
    assert len(listed["data"]) == COUNT + 2
    forwards = await walked(shared, f"{LIST}{sort}&$limit=4")
    assert [contact for page in forwards for contact in page] == listed["data"]
    backwards = await walked(shared, f"{LIST}{sort}&$limit=4", "$before")
    assert [contact for page in reversed(backwards) for contact in page] == listed["data"]


async def test_a_page_has_only_joins_and_selected_fields(shared: Crm) -> None:
    asked = f"{BY_COMPANY}&$select[]=first_name&fastJoinForContactList=true&$limit=2"
    pages = await walked(shared, asked)
    rows = [row for page in pages for row in page]
    assert all(set(row) == {"id", "first_name"} for row in rows)
    pages = await walked(shared, f"{asked}&$select[]=company_id")
    rows = [row for page in pages for row in page]
    assert [row["company_id"] for row in rows[:4]] == [102] * 4
    assert all(set(row) == {"id", "first_name", "company_id", "company"} for row in rows)


async def test_cursors_work_with_filters_by_custom_fields(shared: Crm) -> None:
    pages = await walked(
        shared, f"{LIST}&custom_fields_by_name.Size[$gte]=3&$sort[created_at]=-1&$sort[id]=-1&$limit=4"
    )
    assert [[row["first_name"] for row in page] for page in pages] == [["N8", "N7", "N6", "N5"], ["N4", "N3"]]


async def test_an_order_by_custom_fields_has_no_cursors(shared: Crm) -> None:
    for name in ("$after", "$before"):
        error = refused(await shared.call(f"{LIST}&$sort[custom_fields_by_name.Size]=1&{name}="), 400, name)
        assert error["errors"][name] == "does not go with an order by custom_fields_by_name.Size: use $skip"


async def test_a_cursor_of_another_query_organization_or_service_is_refused(shared: Crm) -> None:
    cursor = (await shared.call(f"{BY_COMPANY}&$limit=2&$after="))[1]["next"]
    assert (await shared.call(f"{BY_COMPANY}&$limit=5&$after={cursor}", user=790))[0] == 200
    foreign = BY_COMPANY.replace("456", "457")
    companies = f"{LIST}&$sort[owned_by_user_id]=1".replace("contacts", "companies")
    others = [f"{LIST}&$sort[company_id]=1", LIST, f"{BY_COMPANY}&company_id=101", companies]
    for request, user in [*((other, 789) for other in others), (foreign, 791)]:
        for name in ("$after", "$before"):
            error = refused(await shared.call(f"{request}&{name}={cursor}", user=user), 400, name)
            assert "use it with the query that it came from" in error["errors"][name]


async def test_other_services_are_walked_too(shared: Crm) -> None:
    for request in ("GET /companies?organization_id=456", "GET /audit?organization_id=456", "GET /organizations?",
                    "GET /organizations/456/users?"):  # fmt: skip
        _, listed = await shared.call(f"{request}&$limit=100")
        assert [row for page in await walked(shared, f"{request}&$limit=1") for row in page] == listed["data"]


async def test_totals_that_are_not_requested_are_not_counted(shared: Crm) -> None:
    for query in ("$total=false", "$after=", "$before=", "$limit=0&$total=false", "$total=false&$skip=3"):
        shared.statements.clear()
        status, page = await shared.call(f"{LIST}&{query}")
        assert (status, "total" in page) == (200, False)
        assert not [statement for statement in shared.statements if "count(" in statement]
    _, page = await shared.call(f"{LIST}&$after=&$total=exact&$limit=1")
    assert page["total"] == COUNT + 2


async def test_totals_are_exact_unless_something_else_is_asked_for(shared: Crm) -> None:
    for query in ("", "&$total=exact", "&$total=true", "&$limit=100&$total=estimated"):
        _, page = await shared.call(LIST + query)
        assert page["total"] == COUNT + 2
        assert page.get("estimated", False) is False


async def test_a_cursor_needs_no_escape_in_a_url(shared: Crm) -> None:
    cursor = (await shared.call(f"{BY_COMPANY}&$limit=2&$after="))[1]["next"]
    assert quote(cursor, safe="") == cursor
