"""CSV and JSON files: reading rows one by one, and writing pages of records."""

from __future__ import annotations

import csv
import json
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, iterdecode
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from io import StringIO
from itertools import count
from typing import Any, BinaryIO

from apex.encoding import decode_storable, encode
from apex.errors import BadRequest
from apex.types import Row
from services.transfer.columns import NOT_UTF8, Columns

Pages = AsyncIterator[list[Row]]
NumberedRow = tuple[int, Row | BadRequest]
"""A row, or the error that refuses it, with the number of its line. In a JSON array the number is its position."""

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json; charset=utf-8"}
LONGEST_LINE = 1024 * 1024
CHUNK = 64 * 1024

# A spreadsheet evaluates a cell that begins with one of these signs as a formula. In some languages it does so for the
# full-width signs too (https://owasp.org/www-community/attacks/CSV_Injection). Numbers and phone numbers, such as -12.5
# and +49 170 1234567, are harmless.
_FORMULA = re.compile(r"['\s]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")
_HARMLESS = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|\+[0-9]+( [0-9]+)*")
_SUSPECT = frozenset("'=+-@\uff1d\uff0b\uff0d\uff20") | {sign for sign in map(chr, range(0x3001)) if sign.isspace()}
QUOTE = "'"

# The text between the values of an array. The decoder only finds the end of each value, so it leaves numbers as text.
_SPACE = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(r"[ \t\n\r]*([,\]])")
_EMPTY = re.compile(r"[ \t\n\r]*\]")
_VALUES = json.JSONDecoder(parse_float=str, parse_int=str)


def read_rows(file: BinaryIO, format: str, columns: Columns) -> Iterator[NumberedRow]:
    """Yield the rows of a seekable file: CSV, a JSON array, or JSON Lines. The file is never in memory as a whole.

    A row that cannot be read is yielded as an error. Raises BadRequest for unknown columns, and where the rest of the
    file cannot be read.
    """
    head = file.read(1024)
    if head.startswith((BOM_UTF16_BE, BOM_UTF16_LE)) or b"\0" in head[:2]:
        raise BadRequest(NOT_UTF8)
    start = len(BOM_UTF8) if head.startswith(BOM_UTF8) else 0
    is_array = format != "csv" and head[start:].lstrip().startswith(b"[")
    file.seek(head.index(b"[") + 1 if is_array else start)
    if format == "csv":
        return _csv_rows(file, columns)
    return number_records(_array(file) if is_array else _json_lines(file), columns)


def number_records(numbered: Iterable[tuple[int, Any]], columns: Columns) -> Iterator[NumberedRow]:
    """Yield numbered JSON values as rows."""
    for line, value in numbered:
        yield line, value if isinstance(value, BadRequest) else _row_or_error(columns.to_row, value)


def _csv_rows(file: BinaryIO, columns: Columns) -> Iterator[NumberedRow]:
    lines: list[str] = []  # The lines of the record that is being read.
    reader = csv.reader(_collect(_lines(file), lines), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        lines.clear()
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            wrong = _malformed(error)
            if header is None or not _has_ended(lines):
                raise BadRequest(f"Line {line}: {wrong}: nothing after it can be read") from None
            yield line, BadRequest(wrong)
            continue
        if header is None:
            header = [unescape(name.strip()) for name in cells]
            columns.check(header)
        elif cells:
            yield line, _row_or_error(columns.from_cells, header, [unescape(cell) for cell in cells])
    if header is None:
        columns.check([])


def _collect(lines: Iterator[str], collected: list[str]) -> Iterator[str]:
    for line in lines:
        collected.append(line)
        yield line


def _has_ended(lines: list[str]) -> bool:
    """Return True if a malformed record certainly ends with its last line. If not, its text could be read as rows.

    Readers differ: for some every quote opens or closes a cell, for others quotes inside a cell mean nothing. Both
    must find the same end.
    """
    quotes = sum(line.count('"') for line in lines)
    try:
        return not quotes or (quotes % 2 == 0 and len(list(csv.reader([*lines, "next"]))) == 2)
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
    """Yield the text of each value of an array, after its opening bracket.

    Raises ValueError or RecursionError where the array is malformed.
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
    """Return a value, the mark after it and the end of the mark, or None if the text ends before that."""
    start = _SPACE.match(text, at).end()  # type: ignore[union-attr]
    try:
        _, end = _VALUES.raw_decode(text, start)
    except ValueError:
        return None
    mark = _MARK.match(text, end)
    return (text[start:end], mark[1], mark.end()) if mark else None


def _value(text: str) -> Any:
    """Return the value of a JSON text, or an error. The rules are those for the body of a request."""
    try:
        return decode_storable(text.encode())
    except UnicodeEncodeError:
        return BadRequest(NOT_UTF8)
    except ValueError as error:
        return BadRequest(f"Malformed JSON: {str(error)[:200]}")


def _lines(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a file. Bytes that are not UTF-8 become surrogates, so that only their row is refused."""
    for number in count(1):
        line = file.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise BadRequest(f"Line {number} has more than {LONGEST_LINE:,} bytes: lines must end with a line feed")
        if not line:
            return
        yield line.decode(errors="surrogateescape")


def _row_or_error(make: Callable[..., Row], *values: Any) -> Row | BadRequest:
    try:
        return make(*values)
    except BadRequest as error:
        return error


def write_pages(pages: Pages, format: str, columns: Columns) -> AsyncGenerator[bytes, None]:
    """Yield the text of a file, page by page."""
    return _write_csv(pages, columns) if format == "csv" else _write_json(pages)


async def _write_csv(pages: Pages, columns: Columns) -> AsyncGenerator[bytes, None]:
    yield _csv([columns.header])
    async for page in pages:
        yield _csv([columns.to_cells(row) for row in page])


def _csv(lines: list[list[str]]) -> bytes:
    text = StringIO(newline="")
    csv.writer(text).writerows([escape(cell) for cell in line] for line in lines)
    return text.getvalue().encode()


def escape(cell: str) -> str:
    """Return a cell that no spreadsheet evaluates: one that looks like a formula gets a quote before it."""
    is_formula = cell[:1] in _SUSPECT and _FORMULA.match(cell) and not _HARMLESS.fullmatch(cell)
    return QUOTE + cell if is_formula else cell


def unescape(cell: str) -> str:
    """Return the cell as it was before ``escape``. Other quotes stay."""
    return cell[1:] if cell[:1] == QUOTE and _FORMULA.match(cell, 1) else cell


async def _write_json(pages: Pages) -> AsyncGenerator[bytes, None]:
    """Yield an array with one record on each line."""
    before = b"[\n"
    async for page in pages:
        yield before + b",\n".join(map(encode, page))
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
