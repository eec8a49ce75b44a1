"""Tests of the storages of the token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from apex.client import FileStorage, MemoryStorage, Storage


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_token_is_kept_until_it_is_removed(kind: str, tmp_path: Path) -> None:
    storage: Storage = MemoryStorage() if kind == "memory" else FileStorage(tmp_path / "new" / "token")
    assert storage.get() is None
    storage.set("a")
    storage.set("b")
    assert storage.get() == "b"
    storage.remove()
    storage.remove()
    assert storage.get() is None


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o644)
    FileStorage(path).set("new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (FileStorage(str(path)).get(), list(tmp_path.iterdir())) == ("new", [path])


def test_a_token_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "token").mkdir()
    with pytest.raises(OSError, match="token"):
        FileStorage(tmp_path / "token").set("a")
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_an_empty_file_holds_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("\n", encoding="utf-8")
    assert FileStorage(tmp_path / "token").get() is None


def test_a_file_may_be_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    FileStorage("~/token").set("a")
    assert (tmp_path / "token").read_text(encoding="utf-8") == "a"
