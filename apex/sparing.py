"""Libraries imported without what they would import for purposes that are not ours: some take more memory than apex."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType


class _Sparing(MetaPathFinder):
    def __init__(self, lazy: Collection[str], hidden: Collection[str]) -> None:
        self.lazy, self.hidden = lazy, hidden

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self.hidden:
            raise ModuleNotFoundError(name, name=name)
        spec = PathFinder.find_spec(name) if name in self.lazy else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


@contextmanager
def sparing(*, lazy: Collection[str] = (), hidden: Collection[str] = ()) -> Iterator[None]:
    """Inside, modules that are ``lazy`` are loaded once somebody uses them, and ``hidden`` ones are not there."""
    finder = _Sparing(lazy, hidden)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
