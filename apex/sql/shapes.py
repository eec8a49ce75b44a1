"""The columns of a table as JSON Schemas: what a record looks like when it goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, Boolean, Column, Date, DateTime, Float, Integer, Numeric, String, Table, Uuid
from sqlalchemy.types import TypeEngine

from apex.sql.columns import Fixed, Timestamp

Shape = dict[str, Any]

_SHAPES: tuple[tuple[Any, Shape], ...] = (
    ((Timestamp, DateTime), {"type": "string", "format": "date-time"}),
    (Date, {"type": "string", "format": "date"}),
    (Uuid, {"type": "string", "format": "uuid"}),
    (Boolean, {"type": "boolean"}),
    (Integer, {"type": "integer"}),
    (Float, {"type": "number"}),
    (Numeric, {"type": "string", "format": "decimal"}),
    (String, {"type": "string"}),
    (JSON, {}),
)


def shapes_of(table: Table) -> Mapping[str, Shape]:
    """The shape of each column that can be shown, by its name."""
    return {str(column.name): _shape(column) for column in table.columns}


def _shape(column: Column[Any]) -> Shape:
    shape = dict(_shape_of(column.type))
    if not shape and not column.nullable:
        return {"not": {"type": "null"}}
    if column.nullable and "type" in shape:
        shape["type"] = [shape["type"], "null"]
    return shape


def _shape_of(kind: TypeEngine[Any]) -> Shape:
    if isinstance(kind, Fixed):
        return {"type": "number"} if kind.as_float else {"type": "string", "format": "decimal"}
    return next((shape for types, shape in _SHAPES if isinstance(kind, types)), {})
