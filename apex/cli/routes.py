"""What an app has registered, for people and programs to read: endpoints, events, and the hooks of each method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.callbacks import name_of, unwrapped
from apex.common.conditions import iff
from apex.errors import ConfigError
from apex.hooks import AnyHook, Composed, in_order
from apex.query.language import suggestion
from apex.service import EVENTS, BoundService
from apex.types import STANDARD

Entry = dict[str, Any]

_ENDPOINTS = {
    "find": [("GET", "")],
    "get": [("GET", "/:id")],
    "create": [("POST", "")],
    "update": [("PUT", ""), ("PUT", "/:id")],
    "patch": [("PATCH", ""), ("PATCH", "/:id")],
    "remove": [("DELETE", ""), ("DELETE", "/:id")],
}
INDENT = "  "


def services(app: Apex) -> list[Entry]:
    """Each service with ``path``, ``endpoints``, ``methods`` and ``events``, in the order in which they were
    registered. One that has no methods for callers outside has no endpoints.
    """
    return [entry(bound) for bound in app.services.values()]


def entry(bound: BoundService) -> Entry:
    return {
        "path": bound._path,
        "endpoints": list(endpoints(bound)),
        "methods": list(bound._options.methods),
        "events": events(bound),
    }


def endpoints(bound: BoundService) -> Iterator[Entry]:
    """``verb``, ``path`` and ``method`` of each request that is answered; a custom method is named by a header."""
    path = f"/{bound._path.strip('/')}"
    for method in bound._options.methods:
        for verb, suffix in _ENDPOINTS.get(method, [("POST", "")]):
            if suffix or method in ("find", "create") or method not in STANDARD or _takes_many(bound, method):
                yield {"verb": verb, "path": path.rstrip("/") + suffix or "/", "method": method}


def _takes_many(bound: BoundService, method: str) -> bool:
    """An adapter says of which methods it does; any other service is asked."""
    if not isinstance(bound.service, Adapter):
        return True
    multi = bound.service.multi
    return multi if isinstance(multi, bool) else method in multi


def events(bound: BoundService) -> list[str]:
    return [*(EVENTS[method] for method in bound._hookable if method in EVENTS), *bound._options.events]


def find(app: Apex, path: str) -> BoundService:
    """The service of a path. Raises ConfigError when there is none."""
    path = path.strip("/") or "/"
    if path not in app.services:
        raise ConfigError(f"there is no service '{path}'.{suggestion(path, app.services)}")
    return app.services[path]


def chain(bound: BoundService, method: str) -> list[Entry]:
    """Return the hooks of a method and the method itself in the order in which they run.

    Each has ``type``, ``level`` (app or service), ``name``, ``module``, and ``inside`` for the hooks inside of it.
    """
    own = {"type": "method", "level": "service", **_named(getattr(type(bound.service), method))}
    steps = in_order(bound._steps[method])
    return [own if step.is_method else {"type": step.type, "level": step.level, **shown(step.hook)} for step in steps]


def shown(hook: AnyHook) -> Entry:
    """``name`` and ``module`` of a hook, with the hooks ``inside`` of it and what they are for."""
    held = hook.inside if isinstance(hook, Composed) else {}
    inside: dict[str, list[Entry]] = {branch: [shown(one) for one in hooks] for branch, hooks in held.items()}
    when = {"when": _named(hook.predicate)["name"]} if isinstance(hook, iff) else {}
    return {**_named(hook), **when, **({"inside": inside} if inside else {})}


def _named(thing: Any) -> Entry:
    thing = unwrapped(thing)
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return {"name": name_of(thing), "module": named.__module__}


# For people to read.


def told(entries: list[Entry]) -> Iterator[str]:
    """A line for each endpoint, and below them the events."""
    for entry in entries:
        yield f"{entry['path']}{'' if entry['endpoints'] else '  (internal)'}"
        for endpoint in entry["endpoints"]:
            custom = "" if endpoint["method"] in STANDARD else "  (X-Service-Method)"
            yield f"{INDENT}{endpoint['verb']:<7} {endpoint['path']}  {endpoint['method']}{custom}"
        if entry["events"]:
            yield f"{INDENT}{'events':<7} {', '.join(entry['events'])}"


def told_chain(entries: list[Entry]) -> Iterator[str]:
    """A line for each hook: its type, its level, its name and its module."""
    for entry in entries:
        yield from _lines(entry, f"{entry['type']:<7} {entry['level']:<8}", 0)


def _lines(entry: Entry, head: str, depth: int) -> Iterator[str]:
    when = f" {entry['when']}" if "when" in entry else ""
    yield f"{INDENT}{head}{INDENT * depth}{entry['name']}{when}  {entry['module']}"
    for group, hooks in entry.get("inside", {}).items():
        if group == "else":
            yield f"{INDENT}{'':<16}{INDENT * depth}else"
        for hook in hooks:
            yield from _lines(hook, f"{'':<16}", depth + 1)
