"""The form of a text for searches: case-folded, without accents, with single spaces."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from apex import Context
from apex.types import Row

# Letters that Unicode does not decompose, and that people type without the stroke or as two letters.
_PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


def normalise(text: str) -> str:
    """Return ``"jose alvarez"`` for ``"José  ÁLVAREZ"``, and ``"moller"`` for ``"Møller"``."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_PLAIN)
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(letter))
    return " ".join(plain.split())


def digits(text: str) -> str:
    """Return the digits of a text."""
    return "".join(letter for letter in text if "0" <= letter <= "9")


def line(text: str) -> str:
    """Return the normalised text as one line, with a line break at both ends."""
    return f"\n{normalise(text)}\n"


def search_lines(**forms: str) -> Callable[[Context], None]:
    """Store the form of each given field as a line, before create and patch: ``search_lines(name="name_search")``."""
    return _forms_of(line, forms)


def search_forms(**forms: str) -> Callable[[Context], None]:
    """Store the normalised form of each given field, before create and patch: ``search_forms(name="name_form")``."""
    return _forms_of(normalise, forms)


def _forms_of(make: Callable[[str], str], forms: Mapping[str, str]) -> Callable[[Context], None]:
    def search_forms(context: Context) -> None:
        context.items = [with_forms(row) for row in context.items]

    def with_forms(row: Row) -> Row:
        given = {form: row[field] for field, form in forms.items() if field in row}
        return row | {form: None if text is None else make(text) for form, text in given.items()}

    return search_forms
