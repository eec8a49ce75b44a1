"""The form in which text is searched: case-folded, without accents, its white space single."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping

from apex import Context
from apex.types import Row

# Letters that Unicode takes for whole, and people type without their stroke or as two.
_PLAIN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "\u0131": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)


def normalise(text: str) -> str:
    """``"José  ÁLVAREZ"`` becomes ``"jose alvarez"``, and ``"Møller"`` becomes ``"moller"``."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = unicodedata.normalize("NFKD", text).casefold().translate(_PLAIN)
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(letter))
    return " ".join(plain.split())


def digits(text: str) -> str:
    return "".join(letter for letter in text if "0" <= letter <= "9")


def line(text: str) -> str:
    """Return the form in which a text that is one line is searched."""
    return f"\n{normalise(text)}\n"


def search_lines(**forms: str) -> Callable[[Context], None]:
    """Store for each given field the line that is searched, before create and patch."""
    return _beside(line, forms)


def search_forms(**forms: str) -> Callable[[Context], None]:
    """Store for each given field its normalised form, before create and patch."""
    return _beside(normalise, forms)


def _beside(make: Callable[[str], str], forms: Mapping[str, str]) -> Callable[[Context], None]:
    def search_forms(context: Context) -> None:
        context.items = [with_forms(row) for row in context.items]

    def with_forms(row: Row) -> Row:
        given = {form: row[field] for field, form in forms.items() if field in row}
        return row | {form: None if text is None else make(text) for form, text in given.items()}

    return search_forms
