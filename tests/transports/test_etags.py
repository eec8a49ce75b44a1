"""Entity tags."""

from __future__ import annotations

import pytest

from apex.transports.conditional import is_among, tag_of

MINE = tag_of(b"mine")


def test_a_body_has_its_own_tag() -> None:
    assert MINE == tag_of(b"mine") != tag_of(b"other")


@pytest.mark.parametrize("header", ["*", " * ", MINE, f"W/{MINE}", f'"a", {MINE}', f'"a,b",W/"c" ,  {MINE}'])
def test_a_tag_is_found_in_a_list(header: str) -> None:
    assert is_among(MINE, header)


@pytest.mark.parametrize("header", ["", '""', MINE[1:], MINE[:-1], MINE.strip('"'), '"a", "b"', "**"])
def test_another_one_is_not(header: str) -> None:
    assert not is_among(MINE, header)
