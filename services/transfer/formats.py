"""CSV and JSON: rows out of a file, one after the other, and records into one."""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, iterdecode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from functools import partial
from io import StringIO
from itertools import count
from typing import Any, BinaryIO

from apex.encoding import decode_storable, encode
from apex.errors import BadRequest
from apex.types import Row
from services.transfer.columns import NOT_UTF8, Columns

Pages = AsyncIterator[list[Row]]
Numbered = tuple[int, Row | BadRequest]
"""The number of a row's line (in a JSON array its place) with the row, or with what is wrong with it."""

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json; charset=utf-8"}
LONGEST_LINE = 1024 * 1024
CHUNK = 64 * 1024

# A spreadsheet takes a cell that begins so for a formula, in some languages also with the full-width signs
# (https://owasp.org/www-community/attacks/CSV_Injection). Numbers and phone numbers are none: -12.5, +49 170 1234567.
_FORMULA = re.compile(r"['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_HARMLESS = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|\+[0-9]+( [0-9]+)*")
_SUSPECT = frozenset("'=+-@\uff1d\uff0b\uff0d\uff20") | {sign for sign in map(chr, range(0x3001)) if sign.isspace()}
QUOTE = "'"

# What is between the values of an array; the decoder finds where each of them ends, and makes no numbers of its digits.
_SPACE = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(r"[ \t\n\r]*([,\]])")
_EMPTY = re.compile(r"[ \t\n\r]*\]")
_VALUES = json.JSONDecoder(parse_float=str, parse_int=str)


def rows(file: BinaryIO, format: str, columns: Columns) -> Iterator[Numbered]:
    """The rows of a file, which must be seekable: CSV, a JSON array, or JSON Lines. It is never held as a whole.

    A row that cannot be read is told in its place. Raises BadRequest where nothing after a place can be read, and for
    columns that are not known.
    """
    head = file.read(1024)
    if head.startswith((BOM_UTF16_BE, BOM_UTF16_LE)) or b"\0" in head[:2]:
        raise BadRequest(NOT_UTF8)
    start = len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0
    is_array = format != "csv" and head[start:].lstrip().startswith(b"[")
    file.seek(head.index(b"[") + 1 if is_array else start)
    if format == "csv":
        return _csv_rows(file, columns)
    return records(_array(file) if is_array else _json_lines(file), columns)


def records(numbered: Iterator[tuple[int, Any]], columns: Columns) -> Iterator[Numbered]:
    """JSON values as rows."""
    for line, value in numbered:
        yield line, value if isinstance(value, BadRequest) else _tried(columns.record, value)


def _csv_rows(file: BinaryIO, columns: Columns) -> Iterator[Numbered]:
    record: list[str] = []
    reader = csv.reader(_noted(_lines(file), record), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        record.clear()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            wrong = _malformed(error)
            if header is None or not _has_ended(record):
                raise BadRequest(f"Line {line}: {wrong}: nothing after it can be read") from None
            yield line, BadRequest(wrong)
            continue
        if header is None:
            header = [unescaped(name.strip()) for name in cells]
            columns.check(header)
        elif cells:
            yield line, _tried(columns.from_cells, header, [unescaped(cell) for cell in cells])
    if header is None:
        columns.check([])


def _noted(lines: Iterator[str], record: list[str]) -> Iterator[str]:
    for line in lines:
        record.append(line)
        yield line


def _has_ended(record: list[str]) -> bool:
    """Whether a malformed record surely ends with its last line: what is inside of it must not be taken for rows.

    Readers differ: for some each quote opens or closes, for others those inside a cell mean nothing. All must agree.
    """
    quotes = sum(line.count('"') for line in record)
    try:
        return not quotes or (quotes % 2 == 0 and len(list(csv.reader([*record, "next"]))) == 2)
    except csv.Error:
        return False


def _malformed(error: csv.Error) -> str:
    is_return = str(error).startswith("new-line character")
    return f"Malformed CSV: {'a carriage return alone does not end a line' if is_return else error}"


def _json_lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            yield number, _value(line)


def _array(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    place = 0
    try:
        for place, text in enumerate(_elements(file), 1):
            yield place, _value(text)
    except (ValueError, RecursionError):
        wrong = f"malformed, nested too deep or longer than {LONGEST_LINE:,} characters"
        raise BadRequest(f"Row {place + 1} of the array is {wrong}: nothing after it can be read") from None


def _elements(file: BinaryIO) -> Iterator[str]:
    """The text of each value of an array whose bracket has been read. Raises ValueError or RecursionError where there
    is none.
    """
    rest, mark = "", "["
    for chunk in iterdecode(iter(partial(file.read, CHUNK), b""), "utf-8", "surrogateescape"):
        rest, at = rest + chunk, 0
        if mark == "[" and (empty := _EMPTY.match(rest)):
            mark, at = "]", empty.end()
        while mark != "]" and (found := _element(rest, at)):
            text, mark, at = found
            yield text
        rest = rest[at:]
        if rest.strip() if mark == "]" else len(rest) > LONGEST_LINE:
            raise ValueError
    if mark != "]":
        raise ValueError


def _element(text: str, at: int) -> tuple[str, str, int] | None:
    """A value, the mark after it, and where that ends; None while they are not there as a whole."""
    start = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    try:
        _, end = _VALUES.raw_decode(text, start)
    except ValueError:
        return None
    mark = _MARK.match(text, end)
    return (text[start:end], mark[1], mark.end()) if mark else None


def _value(text: str) -> Any:
    """What a row's JSON means, or what is wrong with it, by the rules for what comes in a request."""
    try:
        return decode_storable(text.encode())
    except UnicodeEncodeError:
        return BadRequest(NOT_UTF8)
    except ValueError as error:
        return BadRequest(f"Malformed JSON: {str(error)[:200]}")


def _lines(file: BinaryIO) -> Iterator[str]:
    """Bytes that are not UTF-8 stay recognisable: a row with some is refused alone."""
    for number in count(1):
        line = file.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise BadRequest(f"Line {number} has more than {LONGEST_LINE:,} bytes: lines must end with a line feed")
        if not line:
            return
        yield line.decode(errors="surrogateescape")


def _tried(make: Callable[..., Row], *values: Any) -> Row | BadRequest:
    try:
        return make(*values)
    except BadRequest as error:
        return error


def written(pages: Pages, format: str, columns: Columns) -> AsyncGenerator[bytes, None]:
    """The text of a file, page by page."""
    return _csv_text(pages, columns) if format == "csv" else _json_text(pages)


async def _csv_text(pages: Pages, columns: Columns) -> AsyncGenerator[bytes, None]:
    yield _csv([columns.header])
    async for page in pages:
        yield _csv([columns.cells(row) for row in page])


def _csv(lines: list[list[str]]) -> bytes:
    text = StringIO(newline="")
    csv.writer(text).writerows([escaped(cell) for cell in line] for line in lines)
    return text.getvalue().encode()


def escaped(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: with a quote before it if it could be one."""
    is_formula = cell[:1] in _SUSPECT and _FORMULA.match(cell) and not _HARMLESS.fullmatch(cell)
    return QUOTE + cell if is_formula else cell


def unescaped(cell: str) -> str:
    """Return the cell as it was before it was escaped. Any other quote stays."""
    return cell[1:] if cell[:1] == QUOTE and _FORMULA.match(cell, 1) else cell


async def _json_text(pages: Pages) -> AsyncGenerator[bytes, None]:
    """An array with a record on each line."""
    before = b"[\n"
    async for page in pages:
        yield before + b",\n".join(map(encode, page))
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
