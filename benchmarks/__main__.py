"""Measures: ``python -m benchmarks [COMMAND]``, by default ``proof``, which ``make bench`` runs.

proof          apex beside Feathers and FastAPI, what the database alone does, many connections, cold tokens, SQLite
compare        one of the parts of it: ``compare get --peers apex,feathers --seconds 3``
growth         10,000 and 1,000,000 contacts; ``growth 10000 10000000``, ``growth services``, ``growth organizations``
soak           whether memory stays flat under load: ``soak 600``
start          how long it takes until the first answer, and the memory then
plot           pictures of what proof and growth have measured last
hops           Python calls and files of one request; ``hops --tree get`` prints the calls
micro          what is remembered or taken the short way, without a server
hold, load     for profilers: servers that stay, and load on one of them
sizes          search and lists as an organization grows: ``sizes 10000 1000000``
custom         lists by custom fields
pressure       gets on a machine with too much to do, beside Feathers
processes      how soon processes learn what another one has done, without Redis and with it
fanout         one event to 1,000 sockets, beside Feathers
returning      a thousand clients that return after a restart, and one that has missed 10,000 events
writes         what a create, a patch and a get cost with the log and without
live           an idle process with the log, and the order of events between processes
transfer       import and export: ``transfer 100000``
webhook        events of the CRM webhook, alone and many in one request: ``webhook 5000 100``
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from benchmarks import (
    compare,
    fanout,
    growth,
    hold,
    hops,
    live,
    micro,
    plot,
    pressure,
    processes,
    proof,
    returning,
    search,
    soak,
    startup,
    transfer,
    webhook,
    writes,
)

COMMANDS: Mapping[str, Callable[..., object]] = {
    "proof": proof.main,
    "compare": compare.main,
    "growth": growth.main,
    "soak": soak.main,
    "start": startup.main,
    "plot": plot.main,
    "hold": hold.main,
    "load": hold.ask,
    "hops": hops.main,
    "micro": micro.main,
    "sizes": search.main,
    "custom": search.custom,
    "pressure": pressure.main,
    "processes": processes.main,
    "fanout": fanout.main,
    "returning": lambda *rounds: returning.main(*map(int, rounds)),
    "live": live.main,
    "writes": writes.main,
    "transfer": lambda *rows: transfer.main(*map(int, rows)),
    "webhook": webhook.main,
}


def main() -> None:
    name, *rest = sys.argv[1:] or ["proof"]
    if name not in COMMANDS:
        raise SystemExit(__doc__)
    COMMANDS[name](*rest)


if __name__ == "__main__":
    main()
