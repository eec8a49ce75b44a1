"""The columns of a file of records: what each is called, and how its cells are written and read."""

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
from services.shared.tenant import TenantService

CUSTOM = "custom_fields_by_name"
DOTTED = f"{CUSTOM}."
MOST = 2_000
SEPARATORS = {";": "semicolons", "\t": "tabs"}
NOT_UTF8 = "The file is not UTF-8: save it as UTF-8"


class Columns:
    """The columns of a service's files in one organization: the fields of its records, then its custom fields.

    ``custom`` maps the name of each custom field to its type. What the server owns is written, and ignored where it
    is read.
    """

    def __init__(self, service: TenantService, custom: Mapping[str, str]) -> None:
        self.schema = service.record()
        self.coerce = service.columns or {}
        self.custom = custom
        self.names = tuple(name for name in self.schema.fields if name in self.coerce and name != CUSTOM)
        self.owned = {"organization_id", *self.schema.dump_fields.keys() - self.schema.load_fields.keys()}
        self.numbers = {
            name for name, field in self.schema.load_fields.items() if isinstance(field, fields.Number | fields.Boolean)
        }
        self.json = (CUSTOM,) if CUSTOM in self.schema.fields else ()

    @property
    def header(self) -> list[str]:
        return [*self.names, *(DOTTED + name for name in self.custom), *self.json]

    @property
    def stored(self) -> tuple[str, ...]:
        """The fields to be read from the database."""
        return (*self.names, *self.json)

    def check(self, header: Sequence[str]) -> None:
        """Raises BadRequest naming every column that is unknown or there twice."""
        _check_encoding(header)
        if len(header) > MOST:
            raise BadRequest(f"There are {len(header)} columns: a file has at most {MOST}")
        known, hints = self.header, Hints()
        unknown = [name for name in header if name not in known and not self._is_undefined(name)]
        errors = {name: "Unknown column." + hints.suggestion(name, known) for name in unknown}
        errors |= {name: "Is there twice" for name, times in Counter(header).items() if times > 1}
        for sign, name in SEPARATORS.items() if errors and len(header) == 1 else ():
            if sign in header[0]:
                raise BadRequest(f"The columns are separated by {name}: save the file with commas")
        if errors or not header:
            raise BadRequest("Invalid columns" if errors else "There are no columns", errors=errors or None)

    def cells(self, row: Row) -> list[str]:
        """A record as the cells of a CSV file. A custom value that its own cell could not give back is in the last."""
        values = dict(row.get(CUSTOM) or {})
        own = {name: values.pop(name) for name, kind in self.custom.items() if _returns(kind, values.get(name))}
        plain = [_cell(row[name]) for name in self.names]
        return [*plain, *(_cell(own.get(name)) for name in self.custom), *(_cell(values or None) for _ in self.json)]

    def from_cells(self, header: Sequence[str], cells: Sequence[str]) -> Row:
        """The row that cells of a CSV file make: an empty one is not given. Raises BadRequest for cells too many."""
        if len(cells) > len(header):
            raise BadRequest(f"There are {len(cells)} cells, but {len(header)} columns")
        _check_encoding(cells)
        return self.record({name: self._value(name, cell) for name, cell in zip(header, cells, strict=False) if cell})

    def record(self, given: Any) -> Row:
        """The row without what the server owns, its custom fields in one object. Raises BadRequest for no object."""
        if not isinstance(given, Mapping):
            raise BadRequest("The row must be an object")
        row = {name: value for name, value in given.items() if name not in self.owned and not name.startswith(DOTTED)}
        dotted = {name.removeprefix(DOTTED): value for name, value in given.items() if name.startswith(DOTTED)}
        if dotted and isinstance(row.get(CUSTOM, {}), Mapping):
            row[CUSTOM] = {**row.get(CUSTOM, {}), **dotted}
        return row

    def _is_undefined(self, name: str) -> bool:
        """Return True for the column of a custom field that the organization has not defined."""
        return bool(self.json) and name.startswith(DOTTED) and name != DOTTED

    def _value(self, name: str, cell: str) -> Any:
        """What cannot be read stays as it is, for the schema to refuse with all else that is wrong."""
        try:
            if name == CUSTOM:
                return decode(cell)
            if name.startswith(DOTTED):
                return _read(self.custom.get(name.removeprefix(DOTTED), "text"), cell)
            return self.coerce[name](cell) if name in self.numbers else cell
        except ValueError:
            return cell


def _check_encoding(cells: Sequence[str]) -> None:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        raise BadRequest(NOT_UTF8) from None


def _read(kind: str, cell: str) -> Any:
    """The value of a custom field's cell. Raises ValueError for what has not its type."""
    if kind == "boolean":
        return boolean(cell)
    if kind != "number":
        return cell
    try:
        return integer(cell)
    except ValueError:
        return number(cell)


def _returns(kind: str, value: Any) -> bool:
    """Whether the cell of this value is read as the same value again."""
    try:
        read = _read(kind, _cell(value))
    except ValueError:
        return False
    return value not in ("", None) and type(read) is type(value) and bool(read == value)


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return encode(value).decode().strip('"')
