"""The facts about a method of a service: those that its hooks and the method itself declare."""

from __future__ import annotations

from inspect import isfunction
from typing import Any

from apex.describe import Facts, facts_of, hooks_in
from apex.service import BoundService


class MethodFacts:
    """The facts about one method of a service, merged from its hooks and the method."""

    def __init__(self, bound: BoundService, method: str) -> None:
        self.service: Any = bound.service
        # The first branch of a condition is the one for external callers.
        declaring = [getattr(bound.service, method), *hooks_in(bound._steps[method], omit="else")]
        found = [facts_of(one) for one in declaring]
        own, *hooks = [facts if facts is not None and facts.holds(bound.service, method) else None for facts in found]
        self.facts: list[Facts] = [facts for facts in (own, *hooks) if facts is not None]
        # A hook that checks data knows more than the method, which may be that of a base class.
        self.checking: list[Facts] = [facts for facts in (*hooks, own) if facts is not None]
        data = self._of_method("data", method)
        self.data: Any = MethodFacts(bound, data).data if isinstance(data, str) else data
        self.query: Any = self._of_method("query", method)
        self.requires: dict[str, str] = self._merged("requires")
        self.sends: dict[str, Any] = self._merged("sends")
        self.answers: dict[str, Any] = self._merged("answers")
        self.adds: dict[str, Any] = self._merged("adds")
        self.collection: bool = any(facts.collection for facts in self.facts)

    def listed(self, name: str) -> list[Any]:
        """Return the items of all lists of this name, each once."""
        return list(dict.fromkeys(item for facts in self.facts for item in getattr(facts, name)))

    def last(self, name: str) -> Any:
        """Return the last value of this name, which overrides earlier ones, or None."""
        return self._made(next((value for facts in reversed(self.facts) if (value := getattr(facts, name))), None))

    def _of_method(self, name: str, method: str) -> Any:
        found = (shapes[method] for facts in self.checking if method in (shapes := getattr(facts, name)))
        return self._made(next(found, None))

    def _made(self, value: Any) -> Any:
        return value(self.service) if isfunction(value) else value

    def _merged(self, name: str) -> dict[str, Any]:
        return {key: value for facts in self.facts for key, value in getattr(facts, name).items()}
