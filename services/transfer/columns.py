"""The columns of a file: their names, and how cells are written and read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from apex.encoding import decode, encode
from apex.errors import BadRequest
from apex.query import Hints
from apex.query.coercion import boolean, integer, number
from apex.schema import fields
from apex.types import Row
from services.custom_fields import CUSTOM_FIELDS
from services.shared.tenant import TenantService

PREFIX = f"{CUSTOM_FIELDS}."
MOST_COLUMNS = 2_000
WRONG_SEPARATORS = {";": "semicolons", "\t": "tabs"}
NOT_UTF8 = "The file is not UTF-8: save it as UTF-8"


class Columns:
    """The columns of a service's files in one organization: the fields of its records, then its custom fields.

    ``custom`` maps the name of each custom field to its type. The fields that only the server sets are written too.
    They are ignored when a file is read.
    """

    def __init__(self, service: TenantService, custom: Mapping[str, str]) -> None:
        self.schema = service.record()
        self.coerce = service.columns or {}
        self.custom = custom
        self.names = tuple(name for name in self.schema.fields if name in self.coerce and name != CUSTOM_FIELDS)
        self.server_fields = {"organization_id", *self.schema.dump_fields.keys() - self.schema.load_fields.keys()}
        self.numbers = {
            name for name, field in self.schema.load_fields.items() if isinstance(field, fields.Number | fields.Boolean)
        }
        self.json = (CUSTOM_FIELDS,) if CUSTOM_FIELDS in self.schema.fields else ()

    @property
    def header(self) -> list[str]:
        """The names of the columns."""
        return [*self.names, *(PREFIX + name for name in self.custom), *self.json]

    @property
    def stored(self) -> tuple[str, ...]:
        """The fields that are read from the database."""
        return (*self.names, *self.json)

    def check(self, header: Sequence[str]) -> None:
        """Raise BadRequest with the name of every column that is unknown or repeated."""
        _check_encoding(header)
        if len(header) > MOST_COLUMNS:
            raise BadRequest(f"There are {len(header)} columns: a file has at most {MOST_COLUMNS}")
        known, hints = self.header, Hints()
        unknown = [name for name in header if name not in known and not self._is_undefined(name)]
        errors = {name: "Unknown column." + hints.suggestion(name, known) for name in unknown}
        errors |= {name: "Is there twice" for name, times in Counter(header).items() if times > 1}
        for sign, name in WRONG_SEPARATORS.items() if errors and len(header) == 1 else ():
            if sign in header[0]:
                raise BadRequest(f"The columns are separated by {name}: save the file with commas")
        if errors or not header:
            raise BadRequest("Invalid columns" if errors else "There are no columns", errors=errors or None)

    def to_cells(self, row: Row) -> list[str]:
        """Return a record as the cells of a CSV file.

        The last cell is JSON. It has the custom values that would change if they were written to a cell and read again.
        """
        values = dict(row.get(CUSTOM_FIELDS) or {})
        own = {name: values.pop(name) for name, kind in self.custom.items() if _survives(kind, values.get(name))}
        plain = [_cell(row[name]) for name in self.names]
        return [*plain, *(_cell(own.get(name)) for name in self.custom), *(_cell(values or None) for _ in self.json)]

    def from_cells(self, header: Sequence[str], cells: Sequence[str]) -> Row:
        """Return the row of a CSV file's cells. Empty cells are left out. Raises BadRequest for too many cells."""
        if len(cells) > len(header):
            raise BadRequest(f"There are {len(cells)} cells, but {len(header)} columns")
        _check_encoding(cells)
        return self.to_row({name: self._value(name, cell) for name, cell in zip(header, cells, strict=False) if cell})

    def to_row(self, given: Any) -> Row:
        """Return a row without the server's fields, and with its custom fields in one object.

        Raises BadRequest for anything but an object.
        """
        if not isinstance(given, Mapping):
            raise BadRequest("The row must be an object")
        kept = {name: value for name, value in given.items() if name not in self.server_fields}
        row = {name: value for name, value in kept.items() if not name.startswith(PREFIX)}
        custom = {name.removeprefix(PREFIX): value for name, value in kept.items() if name.startswith(PREFIX)}
        if custom and isinstance(row.get(CUSTOM_FIELDS, {}), Mapping):
            row[CUSTOM_FIELDS] = {**row.get(CUSTOM_FIELDS, {}), **custom}
        return row

    def _is_undefined(self, name: str) -> bool:
        """Return True for the column of a custom field that the organization has not defined."""
        return bool(self.json) and name.startswith(PREFIX) and name != PREFIX

    def _value(self, name: str, cell: str) -> Any:
        """Return the value of a cell. A cell that cannot be read stays a text, which the schema refuses."""
        try:
            if name == CUSTOM_FIELDS:
                return decode(cell)
            if name.startswith(PREFIX):
                return _read(self.custom.get(name.removeprefix(PREFIX), "text"), cell)
            return self.coerce[name](cell) if name in self.numbers else cell
        except ValueError:
            return cell


def _check_encoding(cells: Sequence[str]) -> None:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        raise BadRequest(NOT_UTF8) from None


def _read(kind: str, cell: str) -> Any:
    """Return the value of a custom field's cell. Raises ValueError if the text does not fit the type."""
    if kind == "boolean":
        return boolean(cell)
    if kind != "number":
        return cell
    try:
        return integer(cell)
    except ValueError:
        return number(cell)


def _survives(kind: str, value: Any) -> bool:
    """Return True if a value that is written to a cell is read as the same value again."""
    try:
        read = _read(kind, _cell(value))
    except ValueError:
        return False
    return value not in ("", None) and type(read) is type(value) and bool(read == value)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return encode(value).decode().strip('"')
