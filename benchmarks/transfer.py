"""The time and the memory of importing and exporting many contacts: ``python -m benchmarks transfer``.

Starts a PostgreSQL server of its own, writes people into a CSV file, imports it with ``apex import`` and exports them
with ``apex export`` as CSV and as JSON. Rows: ``python -m benchmarks transfer 100000``.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.people import ORGANIZATION, USER, people
from tests.support.databases import new_database, start_server

ROWS = 1_000_000
MEMORY = "shared_buffers = 1GB\nmax_wal_size = 4GB"
COLUMNS = ("first_name", "last_name", "email", "phone", "phone_country_code", "phone_country_iso")


def main(rows: int = ROWS) -> None:
    server = start_server(MEMORY)
    try:
        with new_database(server.url) as url, tempfile.TemporaryDirectory() as folder:
            _run(url, Path(folder), "demo")
            file = Path(folder) / "people.csv"
            _write(file, rows)
            print(f"\n{rows:,} contacts\n\n| command | seconds | processor | rows/s | peak (MiB) | file (MiB) |")
            print("|---|---:|---:|---:|---:|---:|", flush=True)
            within = ("contacts", "--organization", str(ORGANIZATION))
            _measure(url, file, rows, "import", *within, str(file), "--user", str(USER))
            for format in ("csv", "json"):
                output = Path(folder) / f"out.{format}"
                _measure(url, output, rows, "export", *within, "--output", str(output))
                output.unlink()
    finally:
        server.stop()


def _write(file: Path, rows: int) -> None:
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        writer.writerows((one.first, one.last, one.email, one.phone, "+1", "US") for one in people(rows))


def _measure(url: str, file: Path, rows: int, *arguments: str) -> None:
    started = time.monotonic()
    used = _run(url, file.parent, *arguments)
    seconds, processor = time.monotonic() - started, used.ru_utime + used.ru_stime
    name, peak, size = f"{arguments[0]} {file.suffix[1:]}", used.ru_maxrss / 1024, file.stat().st_size / 2**20
    figures = f"{seconds:.0f} | {processor:.0f} | {rows / seconds:,.0f} | {peak:.0f} | {size:.0f}"
    print(f"| {name} | {figures} |", flush=True)


def _run(url: str, folder: Path, *arguments: str) -> resource.struct_rusage:
    """Run a command and return its time and memory. Raises SystemExit if it fails."""
    environ = {**os.environ, "DATABASE_URL": url, "APEX_ENV": "development"}
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "apex", *arguments], env=environ, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        if process.returncode:
            raise SystemExit(f"apex {' '.join(arguments)}: {output.read()}")
    return used
