"""The known facts of a call: those of all hooks that it passes, and of the method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apex.describe import facts_of
from apex.hooks import AnyHook, flat, in_order
from apex.service import BoundService


class Known:
    """The facts of one method of a service, as they are together."""

    def __init__(self, bound: BoundService, method: str) -> None:
        things = [getattr(bound.service, method), *_hooks(bound, method)]
        found = [facts for thing in things if (facts := facts_of(thing)) is not None]
        self.facts = [facts for facts in found if facts.holds(bound.service, method)]
        self.data = self._of_method("data", method)
        self.query = self._of_method("query", method)
        self.requires = self._merged("requires")
        self.sends = self._merged("sends")
        self.answers = self._merged("answers")
        self.adds = self._merged("adds")
        self.collection = any(facts.collection for facts in self.facts)

    def listed(self, name: str) -> list[Any]:
        """All that is listed under a name, each once."""
        return list(dict.fromkeys(item for facts in self.facts for item in getattr(facts, name)))

    def last(self, name: str) -> Any:
        """What was said last under a name, which is what counts; None where nothing was."""
        return next((said for facts in reversed(self.facts) if (said := getattr(facts, name))), None)

    def _of_method(self, name: str, method: str) -> Any:
        return next((shapes[method] for facts in self.facts if method in (shapes := getattr(facts, name))), None)

    def _merged(self, name: str) -> dict[str, Any]:
        return {key: value for facts in self.facts for key, value in getattr(facts, name).items()}


def _hooks(bound: BoundService, method: str) -> Iterator[AnyHook]:
    for _, _, hook in in_order(bound._app.store, bound._store, method):
        yield from flat(hook, omit="else")  # Of two branches the first one is that of external callers.
