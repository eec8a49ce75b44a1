"""What is remembered for a while, so that it is not worked out or asked for anew with every call."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 10_000
"""At most so many entries of a kind are remembered."""


class Bounded(OrderedDict[K, V]):
    """A dict of at most ``size`` entries: the oldest makes room for a new one."""

    def __init__(self, size: int = REMEMBERED) -> None:
        super().__init__()
        self.size = size

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self.size:
            self.popitem(last=False)
