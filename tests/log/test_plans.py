"""The plans of PostgreSQL for reading a large log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from apex.log import Log
from apex.log.position import Snapshot
from apex.log.reading import EVERYTHING, PostgresReading
from tests.log.entries import add, opened, row

COUNT = 100_000
FILL = """
INSERT INTO log (xid, origin, created_at, service, event, record_id, record, team)
SELECT n / 1000, 'test', now(), 'notes', 'patched', n::text, '{}', n %% 1000 FROM generate_series(1, %s) AS n
"""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def looked_at(connection: psycopg.Connection[Any], log: Log, statement: Any, values: dict[str, Any]) -> int:
    """Return the number of entries that a statement looks at with a plan for all values. It must not scan the table."""
    made = log.database.compile(statement)
    text = made.text
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    for place, name in enumerate(names, 1):
        text = text.replace(f"%({name})s", f"${place}")
    connection.execute("SET plan_cache_mode = force_generic_plan")
    connection.execute(f"PREPARE one AS {text}".encode())
    values = {**made.constants, **values}
    given = ", ".join(f"'{{{','.join(map(str, v))}}}'" if isinstance(v := values[n], list) else str(v) for n in names)
    explain = "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE one" + (f"({given})" if given else "")
    found = connection.execute(explain.encode()).fetchone()
    connection.execute("DEALLOCATE one")
    assert found is not None
    of_log = [node for node in nodes(found[0][0]["Plan"]) if node.get("Relation Name") == "log"]
    assert of_log
    assert not [node for node in of_log if node["Node Type"] == "Seq Scan"]
    counts = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in of_log]
    return sum(counts)


@pytest.mark.parametrize("analyzed", [False, True])
async def test_a_read_looks_at_new_entries_only(postgres_url: str, analyzed: bool) -> None:
    async with opened(postgres_url) as log:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("ALTER TABLE log SET (autovacuum_enabled = false)")
            connection.execute(FILL, (COUNT,))
            if analyzed:
                connection.execute("VACUUM ANALYZE log")
            reading = PostgresReading(log.database, log.table)
            begin = await log.position()
            assert begin.seen is not None
            since = {"xmax": begin.seen.xmax, "xip": [], "most": 1001}
            assert looked_at(connection, log, reading._new(EVERYTHING), since) == 1  # The last entry
            await add(log, *(row(number, team=7) for number in range(30)))
            assert looked_at(connection, log, reading._new(EVERYTHING), since) == 31
            now = await log.position()
            assert isinstance(now.seen, Snapshot)
            page = {**since, "until": now.seen.xmax, "still_open": [], "after": begin.id}
            assert looked_at(connection, log, reading._page_of(EVERYTHING), page) == 30
            assert looked_at(connection, log, reading._first(EVERYTHING), page) == 30
            assert looked_at(connection, log, reading._is_foreign(), {}) == 0
