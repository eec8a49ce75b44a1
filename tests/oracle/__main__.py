"""Run the oracle: ``python -m tests.oracle --seed 7 --minutes 2``."""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile

from tests.oracle.run import Options, Run
from tests.support.databases import new_database, start_server


def main() -> None:
    """Run with the arguments of the command line. Exit with 1 if anything was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of all choices [default: a new one]")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--redis", action="store_true", help="connect the processes by a Redis, which goes away")
    parser.add_argument("--sqlite", action="store_true", help="one process on SQLite")
    parser.add_argument("--no-javascript", action="store_true")
    parser.add_argument("--no-trouble", action="store_true", help="writes alone")
    arguments = parser.parse_args()
    seed = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    options = Options(
        "", None, seed, arguments.minutes * 60, arguments.processes, arguments.redis, not arguments.no_javascript,
        not arguments.no_trouble,
    )  # fmt: skip
    print(f"seed {seed}", flush=True)
    # A plain SIGTERM would leave the servers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if arguments.sqlite:
        options.processes = 1
        with tempfile.TemporaryDirectory(prefix="apex-oracle-") as folder:
            options.url = f"sqlite:///{folder}/oracle.db"
            sys.exit(_run(options))
    server = options.server = start_server("synchronous_commit = on")
    try:
        with new_database(server.url) as options.url:
            status = _run(options)
    finally:
        server.stop()
    sys.exit(status)


def _run(options: Options) -> int:
    run = Run(options)
    faults = asyncio.run(run())
    print(run.summary())
    print("\n".join(faults.stories[:20]), run.story, sep="\n\n")
    return 1 if faults.total else 0


if __name__ == "__main__":
    main()
