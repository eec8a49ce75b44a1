"""The limit of the database alone: pgbench with the prepared statements of apex.

The statements are those that PostgreSQL logs while apex answers one request, values and all. pgbench runs them over
and over, for contacts and organizations by chance.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import psycopg
from psycopg import sql

from apex.tenant import ROLE
from benchmarks import bodies
from benchmarks.load import Figures, Load
from benchmarks.peers import serving
from benchmarks.servers import database_processor
from benchmarks.stage import Stage
from benchmarks.tenants import FIRST_ORGANIZATION, FIRST_USER, Tenants, sample

NAME = "pgbench"
CLIENTS = 8
"""The number of clients. More do not increase the rate on two cores."""
WARM = 3

_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d [^\[]*\[\d+\] (\w+):  ", re.MULTILINE)
_STATEMENT = re.compile(r"(?:statement|execute [^:]+): (.*)", re.DOTALL)
_PARAMETER = re.compile(r"\$(\d+) = (NULL|'((?:[^']|'')*)')")
_LITERAL = re.compile(r"'(?:[^']|'')*'")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SCRIPT = """\\set place {place}
\\set id 1 + :place + {organizations} * random(0, {last})
\\set organization {first_organization} + :place
\\set user {first_user} + :place
"""


@dataclass(frozen=True)
class Statement:
    """A logged statement with its values. None is NULL."""

    text: str
    values: dict[int, str | None]


def statements(on: Stage, kind: str) -> list[Statement]:
    """Return the statements of one request of a warm server."""
    log = on.server.directory / "log"
    with logged(on.url), serving(["apex"], on.url) as servers:
        for _ in range(WARM):
            bodies.ANSWERS[kind](servers["apex"].port, on.tenants)
        start = log.stat().st_size
        bodies.ANSWERS[kind](servers["apex"].port, on.tenants)
        text = log.read_bytes()[start:].decode()
    return list(parsed(text))


@contextmanager
def logged(url: str) -> Iterator[None]:
    """Log the statements of new connections."""
    name = sql.Identifier(url.rpartition("/")[2])
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(name))
        try:
            yield
        finally:
            connection.execute(sql.SQL("ALTER DATABASE {} RESET log_statement").format(name))


def parsed(log: str) -> Iterator[Statement]:
    """Yield the statements of a log in their order."""
    parts = _ENTRY.split(log)[1:]
    text: str | None = None
    for severity, message in zip(parts[::2], parts[1::2], strict=True):
        if severity == "DETAIL" and text is not None:
            values = {
                int(number): None if value == "NULL" else inner.replace("''", "'")
                for number, value, inner in _PARAMETER.findall(message)
            }
            yield Statement(text, values)
            text = None
        elif severity == "LOG" and (found := _STATEMENT.match(message)):
            if text is not None:
                yield Statement(text, {})
            text = found[1].strip()
    if text is not None:
        yield Statement(text, {})


def script(ran: list[Statement], tenants: Tenants) -> tuple[str, dict[str, str]]:
    """pgbench's script for one request, and the values of its variables. Where an organization is part of a larger
    value, the same one is asked for each time.
    """
    mine, given = sample(tenants), dict[str, str]()
    named = {str(mine["id"]): ":id", str(mine["organization"]): ":organization", str(mine["user"]): ":user"}
    values = [value for one in ran for value in one.values.values() if value is not None]
    fixed = any(value not in named and str(mine["organization"]) in value for value in values)
    head = _SCRIPT.format(
        place=mine["organization"] - FIRST_ORGANIZATION if fixed else f"random(0, {tenants.organizations - 1})",
        organizations=tenants.organizations,
        last=tenants.contacts // tenants.organizations - 1,
        first_organization=FIRST_ORGANIZATION,
        first_user=FIRST_USER,
    )
    lines = [_line(one, named, given) + ";" for one in ran]
    if not any(one.text.upper().startswith("BEGIN") for one in ran):
        # One round trip, and one transaction, as the requests are sent that way too.
        lines = ["\\startpipeline", *lines, "\\endpipeline"]
    return head + "\n".join(lines) + "\n", given


def _line(one: Statement, named: dict[str, str], given: dict[str, str]) -> str:
    """Return the statement in one line, with variables for its parameters."""

    def variable(match: re.Match[str]) -> str:
        value = one.values.get(int(match[1]))
        if value is None:
            return "NULL"
        if _UUID.fullmatch(value):
            return "gen_random_uuid()"
        if value in named:
            return named[value]
        name = f"v{len(given)}"
        given[name] = value
        inside = _UUID.search(value)
        return f"replace(:{name}::text, '{inside[0]}', gen_random_uuid()::text)" if inside else f":{name}"

    text = _LITERAL.sub(_without_colons, one.text)
    return " ".join(re.sub(r"\$(\d+)", variable, text).split())


def _without_colons(match: re.Match[str]) -> str:
    """Escape colons in a text, after which pgbench expects a variable."""
    literal = match[0]
    return f"({literal.replace(':', _COLON)})" if re.search(r":\w", literal) else literal


_COLON = "'||':'||'"


class Pgbench:
    """Statements of a kind of request, run by pgbench."""

    def __init__(self, on: Stage, kind: str) -> None:
        self.on = on
        self.statements = statements(on, kind)
        self.text, self.values = script(self.statements, on.tenants)

    def __call__(self, given: Load, seed: int) -> Figures:
        before = database_processor(self.on.server.data)
        with tempfile.TemporaryDirectory() as folder:
            self._run(Path(folder), given.seconds, seed)
            taken = _latencies(Path(folder))
        database = database_processor(self.on.server.data) - before
        rate, cuts = len(taken) / given.seconds, quantiles(taken, n=100)
        return Figures(rate, median(taken), cuts[98], 0.0, database, 0.0, len(taken), 0, 0)

    def _run(self, folder: Path, seconds: int, seed: int) -> None:
        (folder / "script").write_text(self.text)
        variables = [part for name, value in self.values.items() for part in ("--define", f"{name}={value}")]
        how: list[Any] = ["--client", CLIENTS, "--jobs", 1, "--time", seconds, "--random-seed", seed]
        command = [self.on.server.binaries / "pgbench", "--no-vacuum", "--protocol", "prepared", "--log", *how]
        command += ["--file", "script", *variables, self.on.url]
        settings = {"PGOPTIONS": f"-c role={ROLE} -c timezone=UTC -c jit=off"}
        done = subprocess.run(list(map(str, command)), cwd=folder, env=settings, capture_output=True, text=True)
        if done.returncode or "ERROR" in done.stderr or "aborted" in done.stderr:
            raise SystemExit(f"pgbench failed: {done.stderr}\n{self.text}")


def _latencies(folder: Path) -> list[float]:
    """Return the milliseconds of each transaction."""
    lines = (line for file in folder.glob("pgbench_log.*") for line in file.read_text().splitlines())
    return [int(line.split()[2]) / 1_000 for line in lines]
