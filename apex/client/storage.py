"""Storages for the token of a client."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Protocol


class Storage(Protocol):
    """The methods of a storage for one token."""

    def get(self) -> str | None:
        """Return the token, or None."""
        ...

    def set(self, token: str) -> None:
        """Store a token in place of the last one."""
        ...

    def remove(self) -> None:
        """Delete the token, if there is one."""
        ...


class MemoryStorage:
    """A storage in the memory of the process."""

    def __init__(self) -> None:
        self._token: str | None = None

    def get(self) -> str | None:
        """Return the token, or None."""
        return self._token

    def set(self, token: str) -> None:
        """Store a token in place of the last one."""
        self._token = token

    def remove(self) -> None:
        """Delete the token, if there is one."""
        self._token = None


class FileStorage:
    """A storage in a file that only its owner can read. ``~`` in its path is the home folder::

        Client(rest("http://localhost:3030"), storage=FileStorage("~/.token"))

    Its methods raise OSError.
    """

    def __init__(self, path: str | Path) -> None:
        self.path: Path = Path(path).expanduser()

    def get(self) -> str | None:
        """Return the token, or None."""
        try:
            return self.path.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def set(self, token: str) -> None:
        """Store a token. It is written to a new file with mode 0600, which replaces the old one."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(token)
            os.replace(name, self.path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(name)
            raise

    def remove(self) -> None:
        """Delete the token, if there is one."""
        self.path.unlink(missing_ok=True)
