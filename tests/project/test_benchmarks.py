"""What the benchmarks make of a log and of figures: a mistake there would not be seen in a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.compare import ratio, thrift
from benchmarks.limits import Statement, parsed, script
from benchmarks.load import Figures
from benchmarks.tenants import Tenants, sample

TENANTS = Tenants(organizations=2, users=2, contacts=10)
LOG = """2026-01-01 10:00:00.000 UTC [12] LOG:  execute _pg3_0: SELECT set_config('a', $1, true)
2026-01-01 10:00:00.000 UTC [12] DETAIL:  parameters: $1 = '1001'
2026-01-01 10:00:00.000 UTC [12] LOG:  statement: BEGIN
2026-01-01 10:00:00.000 UTC [12] LOG:  execute <unnamed>: SELECT name
	FROM t WHERE name = $1 AND x = $2
2026-01-01 10:00:00.000 UTC [12] DETAIL:  parameters: $1 = 'it''s', $2 = NULL
2026-01-01 10:00:00.000 UTC [12] LOG:  checkpoint starting: time
"""
FIGURES = Figures(100, 1, 2, 1, 1, 50, 1_000, 0, 0)


def test_statements_are_read_from_a_log() -> None:
    assert list(parsed(LOG)) == [
        Statement("SELECT set_config('a', $1, true)", {1: "1001"}),
        Statement("BEGIN", {}),
        Statement("SELECT name\n\tFROM t WHERE name = $1 AND x = $2", {1: "it's", 2: None}),
    ]


def test_a_script_asks_for_contacts_by_chance() -> None:
    mine = sample(TENANTS)
    values = {1: str(mine["id"]), 2: str(mine["organization"]), 3: "25", 4: None}
    text, given = script([Statement("SELECT $1, $2, $3, $4", values)], TENANTS)
    assert "\\startpipeline\nSELECT :id, :organization, :v0, NULL;\n\\endpipeline" in text
    assert "\\set place random(0, 1)" in text
    assert given == {"v0": "25"}


def test_a_script_keeps_a_transaction() -> None:
    text, _ = script([Statement("BEGIN", {}), Statement("SELECT 1", {}), Statement("COMMIT", {})], TENANTS)
    assert text.endswith("BEGIN;\nSELECT 1;\nCOMMIT;\n")


def test_a_script_has_no_variable_where_a_text_has_a_colon() -> None:
    text, given = script([Statement("SELECT to_char(now(), 'HH24:MI')::text", {})], TENANTS)
    assert "SELECT to_char(now(), ('HH24'||':'||'MI'))::text;" in text
    assert given == {}


@pytest.mark.parametrize("value", ["{%s}", '{"organization_id":%s}'])
def test_a_script_keeps_to_the_organization_that_is_part_of_a_value(value: str) -> None:
    organization = sample(TENANTS)["organization"]
    text, given = script([Statement("SELECT $1", {1: value % organization})], TENANTS)
    assert f"\\set place {organization - 1_001}\n" in text
    assert given == {"v0": value % organization}


def test_each_row_of_a_script_has_a_key_of_its_own() -> None:
    key = "4eefd13f-bb2f-4d09-aa10-8adf69ee5dec"
    text, _ = script([Statement("SELECT $1, $2", {1: key, 2: f'[{{"uuid":"{key}"}}]'})], TENANTS)
    assert f"SELECT gen_random_uuid(), replace(:v0::text, '{key}', gen_random_uuid()::text);" in text


def test_ratios_are_those_of_the_same_round() -> None:
    ours = [replace(FIGURES, rate=200), replace(FIGURES, rate=20), replace(FIGURES, rate=300)]
    theirs = [replace(FIGURES, rate=100), replace(FIGURES, rate=10), replace(FIGURES, rate=100)]
    assert ratio(ours, theirs) == 2


def test_thrift_compares_processor_time_for_a_request() -> None:
    assert thrift([replace(FIGURES, server=0.5)], [FIGURES]) == 2
    assert thrift([replace(FIGURES, server=0.0)], [FIGURES]) == 0
