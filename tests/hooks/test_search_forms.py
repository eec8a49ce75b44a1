"""The form in which text is searched."""

from __future__ import annotations

import pytest

from hooks.search_forms import digits, normalise, search_forms
from tests.hooks.apps import notes

HOOKS = {"before": {method: [search_forms(title="title_form", text="text_form")] for method in ("create", "patch")}}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("José  ÁLVAREZ", "jose alvarez"), ("Straße", "strasse"), ("ﬁn", "fin"), (" a\n b\t", "a b"), ("İ", "i"),
        ("\u00c5", "a"), ("A\u030a", "a"), ("\u212b", "a"), ("\uff21\uff22", "ab"), ("\u2126", "ω"),
        ("李小龍", "李小龍"), ("", ""), ("\u0301", ""), ("Møller", "moller"), ("ǾŁÆ", "olae"), ("\u0131", "i"),
    ],
)  # fmt: skip
def test_case_accents_and_white_space_do_not_count(text: str, form: str) -> None:
    assert normalise(text) == form
    assert normalise(form) == form


@pytest.mark.parametrize(("text", "form"), [("+1 (202) 555-01", "120255501"), ("abc", ""), ("\u0661\u06623", "3")])
def test_digits_are_those_of_ascii(text: str, form: str) -> None:
    assert digits(text) == form


async def test_the_form_of_each_given_field_is_stored_beside_it() -> None:
    row = await notes(HOOKS).create({"title": "Émile", "text": None, "other": "É"})
    assert row == {"id": 1, "title": "Émile", "title_form": "emile", "text": None, "text_form": None, "other": "É"}


async def test_a_patch_renews_the_form_of_what_it_changes() -> None:
    service = notes(HOOKS)
    await service.create({"title": "Émile", "text": "A"})
    row = await service.patch(1, {"title": "Zoë"})
    assert (row["title_form"], row["text_form"]) == ("zoe", "a")


async def test_many_rows_get_their_forms() -> None:
    rows = await notes(HOOKS, multi=True).create([{"title": "É"}, {"text": "B"}])
    assert [row.get("title_form", row.get("text_form")) for row in rows] == ["e", "b"]
