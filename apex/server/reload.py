"""The files of an app whose change ``apex serve --reload`` looks for."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

Stamps = dict[str, tuple[int, int]]
"""When each file was last written, in nanoseconds, and how many bytes it has."""

PASSED_OVER = ("__pycache__", "node_modules")


def stamps(folder: Path) -> Stamps:
    """Those of ``*.py`` anywhere in a folder, but in hidden folders and those of others' code, and of
    ``config/*.json``.
    """
    found: Stamps = {}
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in PASSED_OVER and not name.startswith(".")]
        ending = (".py", ".json") if Path(root) == folder / "config" else ".py"
        for name in files:
            # An editor may take a file away and put another one in its place.
            with suppress(FileNotFoundError):
                if name.endswith(ending):
                    status = os.stat(os.path.join(root, name))
                    found[os.path.relpath(os.path.join(root, name), folder)] = status.st_mtime_ns, status.st_size
    return found
