"""Full-text search: the method ``search`` of all adapters, and the matches of records that are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apex.context import Params, current_call
from apex.describe import describe
from apex.errors import BadRequest
from apex.query.language import Search
from apex.query.search import LONGEST_SEARCH, LONGEST_WORD, SEARCH, SEARCHED, search_text, words_of
from apex.service import Call

if TYPE_CHECKING:
    from apex.adapters.base import Adapter


def matches(search: Search, row: Mapping[str, Any]) -> bool:
    """Return True if the record has all words of a search."""
    *whole, start = search.words
    found = {word for words in _words(search, row) for word in words}
    return found.issuperset(whole) and any(word.startswith(start) for word in found)


def relevance(search: Search, row: Mapping[str, Any]) -> float:
    """Return how well a record matches: the share of matching words, where earlier fields count more."""
    *whole, start = search.words
    score = 0.0
    for place, words in enumerate(_words(search, row)):
        count = sum(word in whole or word.startswith(start) for word in words)
        score += count / (len(words) or 1) / (place + 1)
    return score


def _words(search: Search, row: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    """Return the words of each searched field."""
    longest = SEARCHED // len(search.fields)
    texts = [row.get(field) for field in search.fields]
    found = [words_of(text[:longest]) if isinstance(text, str) else [] for text in texts]
    return [[word[:LONGEST_WORD] for word in words] for words in found]


SEARCHED_TEXT: dict[str, Any] = {
    "type": "string",
    "maxLength": LONGEST_SEARCH,
    "description": "Words that the records must have. The last one may be the beginning of a word.",
}
"""The JSON Schema of ``$search``."""

SEARCH_DATA: dict[str, Any] = {
    "type": "object",
    "properties": {SEARCH: {**SEARCHED_TEXT, "minLength": 1}},
    "required": [SEARCH],
}
"""The JSON Schema of the data that ``search`` takes, beside the other keys of a query."""


@describe(result=SEARCHED_TEXT)
def checked_search(value: Any) -> str:
    """Return the text of a search. Raises ValueError for one that is too long or has no word."""
    return search_text(value)


async def search(adapter: Adapter[Any], data: Any, params: Params) -> Any:
    """Return what ``find`` returns for the query in the data. A call from outside runs ``find`` with its hooks.

    Raises BadRequest for data that is no query with a search.
    """
    if not isinstance(data, Mapping):
        raise BadRequest("The data must be an object")
    if not isinstance(data.get(SEARCH), str) or not data[SEARCH].strip():
        raise BadRequest("Invalid data", errors={SEARCH: "Is required"})
    inner = Params({**params, "query": {**params.query, **data}, "is_inner_call": True})
    context = current_call.get()
    if context is None or context.service is None or context.service.service is not adapter:
        return await adapter.find(inner)
    return context._answer_with(await context.app.call(Call(context.service, "find", params=inner)))
