"""Reading the rows of files: rows that are refused alone, and errors that end the reading."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex.errors import BadRequest
from services.contacts import Contacts
from services.transfer.columns import Columns
from services.transfer.formats import LONGEST_LINE, escape, read_rows, unescape

HEADER = "first_name,last_name\n"
SIGNS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
CELL = st.one_of(st.text(), st.text(st.sampled_from(SIGNS + "' 1a"), max_size=6))


@given(CELL)
def test_an_escaped_cell_can_be_read_again(cell: str) -> None:
    assert unescape(escape(cell)) == cell


@given(CELL)
def test_no_cell_is_evaluated_as_a_formula(cell: str) -> None:
    written = escape(cell)
    harmless = re.fullmatch(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?|\+[0-9 ]+", written, re.ASCII | re.IGNORECASE)
    assert not written.lstrip().startswith(tuple(SIGNS)) or harmless
    assert written[:1] not in ("\t", "\r", "\n")


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("'=1", "''=1"),
        ("-", "'-"),
        *((text, text) for text in ("-12.5", "+49 170 1234567", "+1", "-1e-07", "'t Hart", "a=b", "", "O'Neil")),
    ],
)
def test_formulas_are_escaped_and_numbers_and_phones_are_not(cell: str, written: str) -> None:
    assert escape(cell) == written


def test_a_quote_before_a_number_is_removed() -> None:
    assert [unescape(cell) for cell in ("'-12.5", "'+491701234567", "'t Hart")] == [
        "-12.5",
        "+491701234567",
        "'t Hart",
    ]


def read(text: str | bytes, format: str = "csv") -> tuple[list[Any], str]:
    """Return the rows of a file, the messages of refused ones, and the error that ended the reading."""
    found: list[Any] = []
    file = BytesIO(text if isinstance(text, bytes) else text.encode())
    try:
        for line, row in read_rows(file, format, Columns(Contacts(), {})):
            found.append((line, row.message if isinstance(row, BadRequest) else row.get("first_name")))
    except BadRequest as error:
        return found, " ".join([error.message, *(error.errors or {}).values()])
    return found, ""


@pytest.mark.parametrize(
    "broken",
    [
        '"' + 20_000 * "Junk,Line\n" + '"\n',
        '"a"x,"multi\nJunk,line"\n',
        '"a"x,5" ,"multi\nJunk,line"\n',
        '"a"x,5"\nJunk,line"\n',
        '"one\ntwo"x,"three\nJunk,line"\n',
        '"never closed\nJunk,line\n',
    ],
)
def test_nothing_is_read_from_inside_a_broken_record(broken: str) -> None:
    found, ended = read(f"{HEADER}Good,1\n{broken}End,1\n")
    assert found == [(2, "Good")]
    assert ended.startswith("Line 3: Malformed CSV")
    assert ended.endswith(": nothing after it can be read")


@pytest.mark.parametrize(
    "broken",
    ['"Open" quote,1\n', '"a"x,"b"\n', '"two\nlines"x,1\n', 200_000 * "x" + ",1\n", "Junk\rJunk,1\n"],
)
def test_a_malformed_record_that_ends_with_its_line_is_refused_alone(broken: str) -> None:
    (good, refused, end), ended = read(f"{HEADER}Good,1\n{broken}End,1\n")
    assert (good, end[1], ended) == ((2, "Good"), "End", "")
    assert (refused[0], refused[1].startswith("Malformed CSV: ")) == (3, True)


def test_an_undefined_custom_field_is_read_as_text() -> None:
    text = "first_name,custom_fields_by_name.Age,custom_fields_by_name.Region,custom_fields_by_name\n"
    file = BytesIO(f'{text}Ann,30,5,"{{""Vip"": true}}"\n'.encode())
    ((_, row),) = read_rows(file, "csv", Columns(Contacts(), {"Age": "number"}))
    assert row == {"first_name": "Ann", "custom_fields_by_name": {"Age": 30, "Region": "5", "Vip": True}}


def test_a_malformed_header_is_not_read_as_a_row() -> None:
    found, ended = read('"first_name"x,last_name\nfirst_name,last_name\nAnn,Lee\n')
    assert (found, ended.startswith("Line 1: Malformed CSV")) == ([], True)


@pytest.mark.parametrize("format", ["csv", "json"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf_16_is_named(format: str, encoding: str) -> None:
    text = f"{HEADER}Zoë,1\n" if format == "csv" else '[{"first_name": "Zoë"}]'
    assert read(text.encode(encoding), format) == ([], "The file is not UTF-8: save it as UTF-8")


def test_text_in_another_encoding_refuses_only_its_row() -> None:
    said = "The file is not UTF-8: save it as UTF-8"
    assert read("first_name,naïve\nAnn,1\n".encode("latin-1")) == ([], said)
    assert read(f"{HEADER}Zoë,1\nAnn,1\n".encode("latin-1")) == ([(2, said), (3, "Ann")], "")
    array = '[{"first_name": "Zoë"}, {"first_name": "Ann"}]'
    assert read(array.encode("latin-1"), "json") == ([(1, said), (2, "Ann")], "")
    assert read(array[1:-1].replace(", ", "\n").encode("latin-1"), "json") == ([(1, said), (2, "Ann")], "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("first_name;last_name\nAnn;Lee\n", "separated by semicolons: save the file with commas"),
        ("first_name\tlast_name\nAnn\tLee\n", "separated by tabs: save the file with commas"),
        ("first_name,last_name\rAnn,Lee\r", "a carriage return alone"),
        ("first_name\rAnn\r", "a carriage return alone"),
    ],
)
def test_errors_say_how_to_change_files_of_other_programs(text: str, said: str) -> None:
    found, ended = read(text)
    assert found == []
    assert said in ended


@pytest.mark.parametrize(
    "bad",
    [
        '{"first_name": "s\\ud800"}',
        '{"first_name": 1e400}',
        '{"first_name": NaN}',
        '{"first_name": ' + 5_000 * "1" + "}",
        '{"first_name": ' + 400 * "[" + 400 * "]" + "}",
    ],
)
@pytest.mark.parametrize("join", ["\n", ", "])
def test_a_json_value_that_the_api_refuses_is_refused_alone(bad: str, join: str) -> None:
    text = join.join(['{"first_name": "Ann"}', bad, '{"first_name": "Bob"}'])
    (ann, refused, bob), ended = read(text if join == "\n" else f"[{text}]", "json")
    assert (ann, bob, ended) == ((1, "Ann"), (3, "Bob"), "")
    assert (refused[0], refused[1].startswith("Malformed JSON: ")) == (2, True)


@pytest.mark.parametrize(
    "rest",
    [
        "[" * 100_000,
        '{"a": ' * 100_000,
        '{"first_name": "' + "x" * 2 * LONGEST_LINE + '"}]',
        '{"first_name": "Bob"',
        '{"first_name": "Bob"} {"first_name": "Cid"}]',
        '{"first_name": "Bob",}]',
        "]",
        "1",
    ],
)
def test_an_array_is_read_until_its_first_malformed_value(rest: str) -> None:
    found, ended = read('[{"first_name": "Ann"}, ' + rest, "json")
    assert found == [(1, "Ann")]
    assert ended.startswith("Row 2 of the array")
    assert ended.endswith(": nothing after it can be read")


@pytest.mark.parametrize("text", ["[]", " [ ] \n", ""])
def test_an_array_may_be_empty(text: str) -> None:
    assert read(text, "json") == ([], "")


@pytest.mark.parametrize("text", ['[{"first_name": "Ann"}] more', "[] []", "[", "[,]", "[1 2]"])
def test_text_after_an_array_is_malformed(text: str) -> None:
    assert read(text, "json")[1].endswith(": nothing after it can be read")


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_array_may_be_cut_anywhere_between_two_reads(size: int) -> None:
    class Slow(BytesIO):
        def read(self, wanted: int | None = -1) -> bytes:
            return super().read(size if self.tell() else wanted)

    text = ' [ {"first_name" : "Zoë, [\\"x\\"]"} ,\n{"first_name": "Bob"}, 12, 5 ] \n'
    found = list(read_rows(Slow(text.encode()), "json", Columns(Contacts(), {})))
    assert [line for line, _ in found] == [1, 2, 3, 4]
    assert [row["first_name"] for _, row in found[:2] if not isinstance(row, BadRequest)] == ['Zoë, ["x"]', "Bob"]
