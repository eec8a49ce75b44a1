"""The extras of the package: who asks for what one of them installs is told its name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apex.errors import ConfigError


@contextmanager
def extra(name: str, purpose: str) -> Iterator[None]:
    """Inside, libraries are imported that ``pip install 'apex[name]'`` installs. Raises ConfigError without them."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ConfigError(f"{purpose} needs {missing}: pip install 'apex[{name}]'") from None
