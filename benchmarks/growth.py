"""The cost of calls as data, services and organizations grow.

``python -m benchmarks growth`` (10,000 and 1,000,000 contacts), ``growth 10000 1000000 10000000``, ``growth services``,
``growth organizations``. All sizes are there at once, and are asked in rounds that take turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from urllib.parse import quote

from benchmarks import load
from benchmarks.bodies import ask, list_path
from benchmarks.compare import Measure, Results, measure, nothing, over_http, table, write
from benchmarks.load import Load
from benchmarks.many import MORE
from benchmarks.peers import COMMANDS, serving
from benchmarks.people import settled
from benchmarks.servers import QUIET, Server, started
from benchmarks.stage import MEMORY, Stage, tokens
from benchmarks.tenants import FIRST_ORGANIZATION, Tenants, clear_created, fill, token_file
from tests.support import databases
from tests.support.databases import new_database, start_server

SIZES = (10_000, 1_000_000)
BASE = 100_000
"""The number of contacts made in Python. The database copies them to fill larger tables."""
SECONDS, ROUNDS, CONNECTIONS = 4, 5, 8
SERVICES = (0, 1_000)
ORGANIZATIONS = (1, 10_000)
EACH = 10
"""The contacts of each organization while the number of organizations grows."""
LAST = "cursor at the far end"
BUILD = "SET maintenance_work_mem = '1GB'; SET max_parallel_maintenance_workers = 2"


def main(*given: str) -> None:
    load.require_wrk()
    if given == ("services",):
        services()
    elif given == ("organizations",):
        organizations()
    else:
        rows([int(size) for size in given] or SIZES)


def rows(sizes: Sequence[int]) -> Results:
    """Measure four requests: get, first page without total, last page by cursor, create."""
    with stages([Tenants(contacts=size) for size in sizes]) as on, ExitStack() as stack:
        servers = [stack.enter_context(serving(["apex"], one.url))["apex"] for one in on]
        names = [f"{size:,} contacts" for size in sizes]
        at = dict(zip(names, zip(on, servers, strict=True), strict=True))
        found = {title: _grown(title, at) for title in ("get", "create", "first page without total", LAST)}
    write("rows", found)
    return found


def _grown(title: str, at: Mapping[str, tuple[Stage, Server]]) -> dict[str, list[load.Figures]]:
    kind = title if title in load.KINDS else "path"
    with ExitStack() as stack:
        contenders: dict[str, Measure] = {}
        for name, (one, server) in at.items():
            paths = () if kind != "path" else _paths(title, server, one.tenants)
            file = stack.enter_context(token_file(one.tenants, one.tenants.users, paths))
            contenders[name] = over_http(server, one, kind=kind, tokens=file, tenants=one.tenants)
        some = Load(kind, file, one.tenants, CONNECTIONS, SECONDS)

        def clear() -> None:
            for each, _ in at.values():
                clear_created(each.url, each.tenants)

        for name, (one, _) in at.items():
            _ask_each(contenders[name], some, one.tenants)
        measured = measure(contenders, some, ROUNDS, clear if kind == "create" else nothing)
    print(table(title, measured, next(iter(at))), flush=True)
    return measured


def _ask_each(contender: Measure, some: Load, tenants: Tenants) -> None:
    """Ask for each user at least once, so that the rounds show what later calls cost."""
    asked = seed = 0
    while asked < 2 * tenants.users:
        seed += 1
        asked += contender(replace(some, in_turn=True), seed).requests


def _paths(title: str, server: Server, tenants: Tenants) -> list[str]:
    """Return the path of the page for each organization."""
    mine = {place: token for token, place in tenants.tokens(tenants.organizations)}
    found = []
    for place in range(tenants.organizations):
        page = list_path(FIRST_ORGANIZATION + place) + "&%24total=false"
        if title == LAST:
            page += f"&%24after={_last_cursor(server, page, mine[place])}"
        found.append(page)
    return found


def _last_cursor(server: Server, page: str, token: str) -> str:
    """Return the cursor of the last page."""
    _, last = ask(server.port, "GET", f"{page}&%24before=", token)
    _, before = ask(server.port, "GET", f"{page}&%24before={quote(last['previous'], safe='')}", token)
    return quote(before["next"], safe="")


def services() -> Results:
    """Measure the CRM alone and with many more services."""
    found: Results = {}
    command = [*COMMANDS["apex"][:3], "--app", "benchmarks.many:create_app", *COMMANDS["apex"][3:]]
    with stages([Tenants()]) as (one,), tokens(one.tenants) as file, ExitStack() as stack:
        contenders = {}
        for more in SERVICES:
            environ = {**QUIET, "DATABASE_URL": one.url, MORE: str(more)}
            contenders[f"{more:,} services more"] = over_http(stack.enter_context(started(command, environ)), one)
        for kind in ("get", "list"):
            found[kind] = measure(contenders, Load(kind, file, one.tenants, CONNECTIONS, SECONDS), ROUNDS)
            print(table(kind, found[kind], next(iter(contenders))), flush=True)
    write("services", found)
    return found


def organizations() -> Results:
    """One organization with a few contacts, and many with as many each; each has a user, and there are 200 at least."""
    sizes = [Tenants(count, max(count, 200), count * EACH) for count in ORGANIZATIONS]
    found: Results = {}
    with stages(sizes) as on, ExitStack() as stack:
        servers = [stack.enter_context(serving(["apex"], one.url))["apex"] for one in on]
        names = [f"{one.tenants.organizations:,} organizations" for one in on]
        at = dict(zip(names, zip(on, servers, strict=True), strict=True))
        for kind in ("get", "list"):
            found[kind] = _grown(kind, at)
    write("organizations", found)
    return found


@contextmanager
def stages(sizes: Sequence[Tenants]) -> Iterator[list[Stage]]:
    """Yield a database for each size, all in one server."""
    server = start_server(MEMORY.replace("1GB", "2GB", 1))
    try:
        with ExitStack() as stack:
            yield [_filled(server, stack.enter_context(new_database(server.url)), tenants) for tenants in sizes]
    finally:
        server.stop()


def _filled(server: databases.Server, url: str, tenants: Tenants) -> Stage:
    start = time.perf_counter()
    base = Tenants(tenants.organizations, tenants.users, min(tenants.contacts, max(BASE, tenants.organizations)))
    fill(url, base)
    if tenants.contacts > base.contacts:
        _multiply(url, base.contacts, tenants.contacts)
    seconds = time.perf_counter() - start
    print(f"{tenants.contacts:,} contacts are there after {seconds:.0f} s", file=sys.stderr, flush=True)
    return Stage(url, server, tenants)


def _multiply(url: str, base: int, count: int) -> None:
    """Copies of the first contacts, later ones being younger, without triggers, checks of references, and all indexes
    but those of keys: these are built anew when the rows are there.
    """
    with settled(url) as connection:
        connection.execute(BUILD)
        connection.execute("SET session_replication_role = replica")
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'contacts'"
            " AND indexname NOT IN (SELECT conname FROM pg_constraint WHERE conrelid = 'contacts'::regclass)"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f"DROP INDEX {name}".encode())
        for copy in range(1, -(-count // base)):
            rows = min(base, count - copy * base)
            connection.execute(COPY, {"copy": str(copy), "younger": float(copy * base), "rows": rows})
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute("VACUUM (ANALYZE) contacts")


_SAME = (
    "first_name, last_name, phone, phone_country_code, phone_country_iso, organization_id, created_by_user_id, "
    "owned_by_user_id, system_type, custom_fields_by_name, total_tasks_run, first_name_form, last_name_form"
)
COPY = f"""
    INSERT INTO contacts (uuid, email, email_form, created_at, updated_at, {_SAME})
    SELECT gen_random_uuid(), %(copy)s::text || email, %(copy)s::text || email_form,
        created_at + make_interval(secs => %(younger)s::float8),
        updated_at + make_interval(secs => %(younger)s::float8),
        {_SAME}
    FROM contacts WHERE id <= %(rows)s ORDER BY id
"""
