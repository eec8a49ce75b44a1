"""Lazy imports, and imports of optional libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Any

from apex.errors import ConfigError


def lazy_names(package: str, modules: Mapping[str, Collection[str]]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package. It imports the module of a name when the name is first used.

    ``modules`` maps the modules of the package to their names.
    """
    module_of = {name: module for module, names in modules.items() for name in names}

    def import_name(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        value = getattr(import_module(f"{package}.{module_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return import_name


class _Finder(MetaPathFinder):
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
def lazy_imports(*, lazy: Collection[str] = (), hidden: Collection[str] = ()) -> Iterator[None]:
    """Import modules inside of ``with``: ``lazy`` ones are loaded when they are used, ``hidden`` ones are not found."""
    finder = _Finder(lazy, hidden)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Import the libraries of an extra inside of ``with``. Raises ConfigError, which names it, if one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ConfigError(f"{purpose} needs {missing}: pip install 'feathers-apex[{name}]'") from None
