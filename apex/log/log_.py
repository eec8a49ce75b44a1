"""The log of an app."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING

from apex.log.stats import LogStats

if TYPE_CHECKING:
    from sqlalchemy import Table

    from apex.app import Apex
    from apex.log.plugin import Settings, Tenants
    from apex.log.writing import Writer


class Log:
    """The log of an app: ``app.log``."""

    writer: Writer

    def __init__(self, app: Apex, table: Table, settings: Settings, tenants: Tenants | None) -> None:
        self.app: Apex = app
        self.table: Table = table
        self.settings: Settings = settings
        self.tenants: Tenants | None = tenants
        self.origin: str = token_hex(8)
        """The name of this process in its entries."""
        self.stats: LogStats = LogStats()

    async def open(self) -> None:
        """Start to follow the entries of all processes. Called by the setup of the app."""

    async def close(self) -> None:
        """Stop following. Called by the teardown of the app."""
