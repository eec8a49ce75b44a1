"""The redaction of secrets in logs and traces.

A secret is recognized by its name, by its form, or because the running call has sent it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from apex.observability.observations import Observation, is_own_request_id

HIDDEN: str = "***"
"""The replacement of a secret."""

MOST_SECRETS: int = 1_000
"""The number of secrets of a call that are searched for in a text. With more, the whole text is hidden."""

SHORTEST: int = 6
"""The length of the shortest secret that is searched for. Shorter texts occur anywhere by chance."""

_NAME = re.compile(r"passw|secret|token|credential|authorization|cookie|signature|(api|private).?key", re.IGNORECASE)
_TEXT = re.compile(
    r"eyJ[\w-]+(\.[\w-]+)*"  # a JSON Web Token, or the beginning of one
    r"|\bapex_[0-9a-f]{12}_[\w-]+"  # an API key
    r"|(?<=://)[^/\s@]+(?=@)"  # user and password in a URL
    r"|(?<=[Bb]earer )\S+"
    r"|(?<=token=)[^&\s\"']+|(?<=secret=)[^&\s\"']+|(?<=password=)[^&\s\"']+|(?<=key=)[^&\s\"']+"
)

_SIGNS = ("eyJ", "apex_", "://", "earer ", "=")
"""Each match of ``_TEXT`` contains one of them. Searching for them first is faster."""


def hide(name: str, value: Any, given: Sequence[str] = ()) -> Any:
    """Return a value with its secrets replaced.

    A secret has the name of one, looks like one, or is one of the texts in ``given``.
    """
    if _is_secret(name):
        return HIDDEN
    if isinstance(value, str):
        return _hide_within(value, given)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {key: hide(str(key), inner, given) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [hide("", inner, given) for inner in value]
    return _hide_within(str(value), given)


def secrets_of(seen: Observation | None) -> list[str]:
    """Return the secrets that a call has sent, in headers, handshake, authentication, data or query."""
    found: list[str] = []
    if seen is not None:
        asked = *map(seen.params.get, ("handshake", "authentication", "query")), seen.call and seen.call.data
        for value in (seen.headers, *asked):
            _collect(value, False, found)
    return found


def request_id_of(seen: Observation) -> str:
    """Return the id of a call's request. An id that the caller chose is redacted, as it may be a secret."""
    id = seen.request_id
    return id if is_own_request_id(id) else _hide_within(id, secrets_of(seen))


def _hide_within(text: str, given: Sequence[str]) -> str:
    if len(given) > MOST_SECRETS:
        return HIDDEN
    for secret in given:
        text = text.replace(secret, HIDDEN)
    return _TEXT.sub(HIDDEN, text) if any(sign in text for sign in _SIGNS) else text


def _collect(value: Any, is_named: bool, found: list[str]) -> None:
    """Add the texts of a JSON value to ``found`` that have the name of a secret or are inside one that has."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if is_named or key == "key" or _is_secret(key):
                _collect(inner, True, found)
            elif not isinstance(inner, str):
                _collect(inner, False, found)
    elif isinstance(value, list | tuple):
        for inner in value:
            _collect(inner, is_named, found)
    elif is_named and isinstance(value, str):
        found.extend(part for part in (value, *value.split()) if len(part) >= SHORTEST)


@lru_cache(1_024)  # Each call has a dozen names, and an app has few.
def _is_secret(name: str) -> bool:
    return _NAME.search(name) is not None
