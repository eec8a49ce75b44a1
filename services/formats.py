"""CSV and JSON: rows out of a file, one after the other, and records into one."""

from __future__ import annotations

import csv
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from io import StringIO
from itertools import count
from typing import Any, BinaryIO

import ijson

from apex.encoding import decode_exactly, encode
from apex.errors import BadRequest
from apex.types import Row
from services.columns import Columns

Pages = AsyncIterator[list[Row]]
Numbered = tuple[int, Row | BadRequest]
"""The number of a row's line (in a JSON array its place) with the row, or with what is wrong with it."""

FORMATS = {"csv": "text/csv; charset=utf-8", "json": "application/json; charset=utf-8"}
LONGEST_LINE = 1024 * 1024
BOM = b"\xef\xbb\xbf"


def rows(file: BinaryIO, format: str, columns: Columns) -> Iterator[Numbered]:
    """The rows of a file, which must be seekable: CSV, a JSON array, or JSON Lines. It is never held as a whole.

    A row that cannot be read is told in its place. Raises BadRequest where nothing after a place can be read, and for
    columns that are not known.
    """
    file.seek(len(BOM) if file.read(len(BOM)) == BOM else 0)
    if format == "csv":
        return _csv_rows(file, columns)
    start = file.tell()
    is_array = file.read(1024).lstrip().startswith(b"[")
    file.seek(start)
    return records(_array(file) if is_array else _json_lines(file), columns)


def records(numbered: Iterator[tuple[int, Any]], columns: Columns) -> Iterator[Numbered]:
    """JSON values as rows."""
    for line, value in numbered:
        yield line, value if isinstance(value, BadRequest) else _tried(columns.record, value)


def _csv_rows(file: BinaryIO, columns: Columns) -> Iterator[Numbered]:
    reader = csv.reader(_lines(file), strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            yield line, BadRequest(f"Malformed CSV: {error}")
            continue
        if header is None:
            header = [name.strip() for name in cells]
            columns.check(header)
        elif cells:
            yield line, _tried(columns.from_cells, header, cells)
    if header is None:
        columns.check([])


def _json_lines(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(file), 1):
        if line.strip():
            try:
                yield number, decode_exactly(line)
            except ValueError as error:
                yield number, BadRequest(f"Malformed JSON: {str(error)[:200]}")


def _array(file: BinaryIO) -> Iterator[tuple[int, Any]]:
    values = ijson.items(file, "item", use_float=True)
    for place in count(1):
        try:
            value = next(values)
        except StopIteration:
            return
        except (ijson.JSONError, UnicodeDecodeError):
            raise BadRequest(f"Malformed JSON: row {place} of the array, or what follows it, cannot be read") from None
        yield place, value


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
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


async def _json_text(pages: Pages) -> AsyncGenerator[bytes, None]:
    """An array with a record on each line."""
    before = b"[\n"
    async for page in pages:
        yield before + b",\n".join(map(encode, page))
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"
