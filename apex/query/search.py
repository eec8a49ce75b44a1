"""The words of texts, for full-text search. All adapters find words alike.

A word is a run of letters and digits. Case and the accents of Latin letters do not count: "Café" has the word "cafe".
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

SEARCH = "$search"
"""The filter of ``find`` for the words of a text, in a service with ``searchable``."""

LONGEST_SEARCH = 200
"""The most characters of a search."""

LONGEST_WORD = 255
"""The characters of a word that an index keeps. Searches are shorter, so that the rest makes no difference."""

SEARCHED = 200_000
"""The characters of a record that are searched, in equal parts for its fields. PostgreSQL has room for no more."""

VARIANTS = {"\N{GREEK SMALL LETTER FINAL SIGMA}": "\N{GREEK SMALL LETTER SIGMA}",
            "\N{MICRO SIGN}": "\N{GREEK SMALL LETTER MU}", "\N{LATIN SMALL LETTER LONG S}": "s"}  # fmt: skip
"""Letters in a form of their own at some places of a word, and the usual form."""

_ACCENTED = re.compile("([a-z])[\u0300-\u036f]+")
_VARIANTS = str.maketrans(VARIANTS)


def words_of(text: str) -> list[str]:
    """Return the words of a text, in their order, without differences of case and accents."""
    if not text.isascii():
        decomposed = unicodedata.normalize("NFD", text.lower())
        text = unicodedata.normalize("NFC", _ACCENTED.sub(r"\1", decomposed)).translate(_VARIANTS)
    return "".join(char if char.isalpha() or char.isdecimal() else " " for char in text.lower()).split()


def search_text(value: Any) -> str:
    """Return the text of a search. Raises ValueError for one that is too long or has no word."""
    if not isinstance(value, str) or len(value) > LONGEST_SEARCH:
        raise ValueError(f"must be a text of at most {LONGEST_SEARCH} characters")
    if value.strip() and not words_of(value):
        raise ValueError("must have a letter or a digit")
    return value
