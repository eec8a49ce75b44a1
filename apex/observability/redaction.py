"""Secrets in logs and traces, found by their names, by their form, or because a call has sent them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from apex.observability.observations import Observation
from apex.request import is_own_request_id

HIDDEN = "***"
"""What stands for a secret: that it was there, and not what it was."""

MOST = 1_000
"""The most secrets of a call that are looked for in its texts. With more, texts are hidden whole."""

SHORTEST = 6
"""Shorter texts are hidden by their name alone: they may be a part of anything."""

_NAME = re.compile(r"passw|secret|token|credential|authorization|cookie|signature|(api|private).?key", re.IGNORECASE)
_TEXT = re.compile(
    r"eyJ[\w-]+(\.[\w-]+)*"  # a JSON Web Token, or the beginning of one
    r"|\bapex_[0-9a-f]{12}_[\w-]+"  # an API key
    r"|(?<=://)[^/\s@]+(?=@)"  # who logs in, in a URL
    r"|(?<=[Bb]earer )\S+"
    r"|(?<=token=)[^&\s\"']+|(?<=secret=)[^&\s\"']+|(?<=password=)[^&\s\"']+|(?<=key=)[^&\s\"']+"
)

_SIGNS = ("eyJ", "apex_", "://", "earer ", "=")
"""What ``_TEXT`` finds has one of them, and looking for them is quicker."""


def hide(name: str, value: Any, given: Sequence[str] = ()) -> Any:
    """A value without its secrets: what has the name of one, looks like one or is among those ``given``."""
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
    """Return the secrets in the headers, handshake, proof, data and query of a call."""
    found: list[str] = []
    if seen is not None:
        asked = *map(seen.params.get, ("handshake", "authentication", "query")), seen.call and seen.call.data
        for value in (seen.headers, *asked):
            _collect(value, False, found)
    return found


def request_id_of(seen: Observation) -> str:
    """The id of a call's request, which may be one that its caller chose, and a secret."""
    told = seen.request_id
    return told if is_own_request_id(told) else _hide_within(told, secrets_of(seen))


def _hide_within(text: str, given: Sequence[str]) -> str:
    if len(given) > MOST:
        return HIDDEN
    for secret in given:
        text = text.replace(secret, HIDDEN)
    return _TEXT.sub(HIDDEN, text) if any(sign in text for sign in _SIGNS) else text


def _collect(value: Any, is_named: bool, found: list[str]) -> None:
    """Adds the texts of a part of a call, which is JSON, that have the name of a secret or are in what has it."""
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


@lru_cache(1_024)
def _is_secret(name: str) -> bool:
    """Headers and fields have few names, and each call has a dozen of them."""
    return _NAME.search(name) is not None
