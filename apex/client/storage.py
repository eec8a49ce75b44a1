"""Where a client keeps its token."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import Protocol


class Storage(Protocol):
    """Keeps one token."""

    def get(self) -> str | None: ...

    def set(self, token: str) -> None: ...

    def remove(self) -> None: ...


class MemoryStorage:
    """Keeps the token as long as the process lives."""

    def __init__(self) -> None:
        self._token: str | None = None

    def get(self) -> str | None:
        return self._token

    def set(self, token: str) -> None:
        self._token = token

    def remove(self) -> None:
        self._token = None


class FileStorage:
    """Keeps the token in a file that only its owner can read; ``~`` is the home folder. Raises OSError."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()

    def get(self) -> str | None:
        try:
            return self.path.read_text(encoding="utf-8").strip() or None
        except FileNotFoundError:
            return None

    def set(self, token: str) -> None:
        """Writes a new file, with mode 0600 from the start, and puts it in the place of the old one."""
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
        self.path.unlink(missing_ok=True)
