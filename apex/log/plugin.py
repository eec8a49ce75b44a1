"""The function that gives an app its log: ``app.configure(log(table))``."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Table

from apex.app import Apex
from apex.context import Context
from apex.errors import ConfigError
from apex.hooks import Next
from apex.log.app_log import Log, RightsChanges, TenantsOf
from apex.log.bus import LogBus
from apex.log.pruning import Pruner
from apex.log.settings import Settings
from apex.log.writing import Fields
from apex.sql.database import Database


def log(
    table: Table, *, fields: Fields | None = None, tenants: TenantsOf | None = None, rights: RightsChanges | None = None
) -> Callable[[Apex], None]:
    """Return a function that gives an app its log, after its database::

        entries = log_table(metadata)
        app.configure(database(url)).configure(log(entries))

    From then on each event of a service is an entry of the ``table``, written in the transaction of its change. A
    service with the attribute ``logged = False`` writes none.

    ``fields`` is a function of the context of a call, which returns the values of further columns of its entries.
    ``tenants`` is a function of a connection, which returns the tenants whose entries it may get. ``rights`` names the
    services whose records say what a user may see. A client whose rights change is disconnected. It connects again by
    itself, is not recovered, and so reads again::

        def is_own(member, connection):
            return connection.user is not None and connection.user["id"] == member["user_id"]

        log(entries, rights={"members": is_own})

    Reads the setting ``log`` (``Settings``). Raises ConfigError if the app has no database or a setting is wrong, and
    TypeError if the table is not one of ``log_table``.
    """
    if not isinstance(table, Table) or "xid" not in table.c:
        raise TypeError("log takes the table of the log and not the app or another table: log(log_table(metadata))")

    def configure(app: Apex) -> None:
        if not isinstance(app.get("database"), Database):
            raise ConfigError("The log needs a database: call app.configure(database(url)) before log(table)")
        made = app.log = Log(app, table, Settings.of(app.get("log")), fields, tenants, rights)
        app.bus = LogBus(made, app.bus)
        pruner = Pruner(made)

        async def setup(context: Context, next: Next) -> None:
            await made.open()
            pruner.start()
            await next()

        async def teardown(context: Context, next: Next) -> None:
            try:
                await next()
            finally:
                await pruner.stop()
                await made.close()

        app.hooks({"setup": [setup], "teardown": [teardown]})

    return configure
