"""Tests of API keys: their format, their storage and their holders."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import pytest

from apex import Params
from apex.auth import APIKey, APIKeyStrategy, Holder, hash_key, new_key
from apex.errors import NotAuthenticated

TEXT = f"apex_0123456789ab_{'s' * 43}"
KEY = APIKey(TEXT, "apex_0123456789ab", hash_key(TEXT))


class Keys(APIKeyStrategy):
    """A strategy with one key. ``asked`` has the prefixes that were looked up."""

    def __init__(self) -> None:
        super().__init__(self.find_one, self.find_one)
        self.known: Holder | None = {"hash": KEY.hash, "payload": {"sub": "7"}, "key_id": 1}
        self.asked: list[str] = []

    async def find_one(self, prefix: str) -> Any:
        self.asked.append(prefix)
        return self.known if prefix == KEY.prefix else None

    async def proves(self, key: Any) -> Any:
        return (await self.verify({"strategy": "api-key", "key": key}))["authentication"]


def test_a_key_is_its_prefix_and_a_secret_of_which_a_hash_is_stored() -> None:
    made = new_key()
    assert made.text.startswith(f"{made.prefix}_")
    assert len(made.text) == len(KEY.text)
    assert made.hash == hash_key(made.text)
    assert len({new_key().text for _ in range(100)}) == 100


async def test_the_holder_is_looked_up_once_and_the_hash_is_not_returned() -> None:
    keys = Keys()
    for _ in range(3):
        assert await keys.proves(KEY.text) == {"strategy": "api-key", "payload": {"sub": "7"}, "key_id": 1}
    assert keys.asked == [KEY.prefix]


async def test_a_key_comes_in_its_own_header() -> None:
    keys = Keys()
    assert keys.parse({"x-api-key": KEY.text, "authorization": "x"}) == {"strategy": "api-key", "key": KEY.text}
    assert keys.parse({"authorization": KEY.text}) is None
    assert keys.scheme == {"type": "apiKey", "in": "header", "name": "x-api-key"}


async def test_a_login_has_the_user_where_there_are_users() -> None:
    keys = Keys()
    keys.users = lambda subject: asyncio.sleep(0, {"id": subject})
    proven = {"authentication": {"strategy": "api-key", "payload": {"sub": "7"}, "key_id": 1}}
    assert await keys.authenticate({"key": KEY.text}, Params()) == proven | {"user": {"id": "7"}}
    keys.entity = None
    assert await keys.authenticate({"key": KEY.text}, Params()) == proven


@pytest.mark.parametrize(
    "key",
    [None, 7, "", KEY.prefix, KEY.text + "x", KEY.text[:-1], " " + KEY.text, KEY.text.upper(), "é" * 61, {"$ne": None}],
)
async def test_a_malformed_key_is_refused_without_a_lookup(key: Any) -> None:
    keys = Keys()
    with pytest.raises(NotAuthenticated, match="Invalid API key"):
        await keys.proves(key)
    assert keys.asked == []


@pytest.mark.parametrize("key", [f"{KEY.prefix}_{'A' * 43}", f"apex_ba9876543210_{'s' * 43}"])
async def test_an_unknown_key_is_refused(key: str) -> None:
    with pytest.raises(NotAuthenticated, match="Invalid API key"):
        await Keys().proves(key)


async def test_a_key_is_asked_for_again_when_it_was_changed_here() -> None:
    keys = Keys()
    await keys.proves(KEY.text)
    keys.known = None
    await keys.proves(KEY.text)
    keys.forget()
    with pytest.raises(NotAuthenticated):
        await keys.proves(KEY.text)


async def test_a_key_is_asked_for_again_within_a_second() -> None:
    keys = Keys()
    for moment in (100.0, 100.8, 101.0):
        keys.holders.clock = lambda moment=moment: moment  # type: ignore[misc]
        await keys.proves(KEY.text)
    assert len(keys.asked) == 2


def test_former_names_work_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "apex.keys", raising=False)
    with pytest.warns(DeprecationWarning, match=r"apex\.keys is apex\.auth\.api_keys now"):
        keys = importlib.import_module("apex.keys")
    with pytest.warns(DeprecationWarning, match="Key is APIKey now"):
        assert keys.Key is APIKey
    with pytest.warns(DeprecationWarning, match="KeyStrategy is APIKeyStrategy now"):
        assert keys.KeyStrategy is APIKeyStrategy
    with pytest.warns(DeprecationWarning, match="hashed is hash_key now"):
        assert keys.hashed is hash_key
    assert keys.new_key is new_key
