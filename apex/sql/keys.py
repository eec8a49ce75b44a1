"""The keys of a service: the id and the natural key name one row of its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, UniqueConstraint

if TYPE_CHECKING:
    from apex.sql.service import SQLService


def require_keys(service: SQLService[Any], path: str) -> None:
    """Raise TypeError if the id of a service, or its natural key, may belong to several rows of its table."""
    by_id = {"get", "update", "patch", "remove"}
    is_by_id = service.methods is None or bool(by_id.intersection(service.methods))
    table, key = service.table, service.natural_key
    if key and not is_unique(table, key, in_part=True):
        raise TypeError(
            f"The natural_key of service '{path}' does not name one row: declare a UniqueConstraint of "
            f"{', '.join(key)} in the table, or calls at the same moment would make two"
        )
    if is_by_id and not is_unique(table, [service.id]):
        raise TypeError(
            f"The id of service '{path}' does not name one row: {table.c[service.id]} is not unique by itself. "
            "Name another column with id=..., declare this one with unique=True, or give methods without an id"
        )


def is_unique(table: Table, names: Sequence[str], *, in_part: bool = False) -> bool:
    """Return True if no two rows of a tenant have the same values in columns, or if the table is a view without key.

    With ``in_part`` that may hold for a part of the rows alone, such as those that are not removed.
    """
    keys: list[Any] = [table.primary_key, *(each for each in table.constraints if isinstance(each, UniqueConstraint))]
    whole = (index for index in table.indexes if not any(key.endswith("_where") for key in index.dialect_kwargs))
    keys += [index for index in (table.indexes if in_part else whole) if index.unique]
    tenant = {table.info.get("tenant")} - {*names}  # The id of a tenant names it.
    own = [{str(column.name) for column in key.columns} - tenant for key in keys]
    return not table.primary_key.columns or {*names} in own
