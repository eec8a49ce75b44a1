"""Options that several commands have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

ID: click.IntRange = click.IntRange(1, (1 << 63) - 1)


class Day(click.ParamType[datetime]):
    """An option's day in UTC, today or earlier, such as ``2026-01-31``. Commands get its first moment."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the first moment of a day. Anything else fails with a message."""
        try:
            day = datetime.strptime(value, "%Y-%m-%d").replace(tzinfo=UTC)
        except ValueError:
            self.fail(f"'{value}' is not a day such as 2026-01-31.", param, ctx)
        if day > datetime.now(UTC):
            self.fail(f"{value} is in the future.", param, ctx)
        return day


DAY: Day = Day()

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
