"""The lists of ``apex routes``: the endpoints and events of services, and the hooks of each method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.common.conditions import iff
from apex.common.transactions import transaction
from apex.describe import in_order
from apex.errors import ConfigError
from apex.events import EVENTS
from apex.hooks import AnyHook, Composed
from apex.query.language import suggestion
from apex.service import BoundService
from apex.signatures import name_of, unwrapped

Entry = dict[str, Any]
"""A part of a list, as it is printed with ``--json``."""

_ENDPOINTS = {
    "find": [("GET", "")],
    "get": [("GET", "/:id")],
    "create": [("POST", "")],
    "update": [("PUT", ""), ("PUT", "/:id")],
    "patch": [("PATCH", ""), ("PATCH", "/:id")],
    "remove": [("DELETE", ""), ("DELETE", "/:id")],
}
INDENT: str = "  "


def services(app: Apex) -> list[Entry]:
    """Return an entry for each service, in the order of registration."""
    return [entry(bound) for bound in app.services.values()]


def entry(bound: BoundService) -> Entry:
    """Return ``path``, ``endpoints``, ``methods`` and ``events`` of a service. An internal service has no endpoints."""
    return {
        "path": bound._path,
        "endpoints": list(endpoints(bound)),
        "methods": list(bound._options.methods),
        "events": events(bound),
    }


def endpoints(bound: BoundService) -> Iterator[Entry]:
    """Yield ``verb``, ``path`` and ``method`` of each endpoint."""
    path = f"/{bound._path.strip('/')}"
    for method in bound._options.methods:
        for verb, suffix in _ENDPOINTS.get(method, [("POST", f"/{method}")]):
            if suffix or method in ("find", "create") or _takes_many(bound, method):
                yield {"verb": verb, "path": path.rstrip("/") + suffix or "/", "method": method}


def _takes_many(bound: BoundService, method: str) -> bool:
    # A service that is no adapter may accept calls for many records.
    if not isinstance(bound.service, Adapter):
        return True
    multi = bound.service.multi
    return multi if isinstance(multi, bool) else method in multi


def events(bound: BoundService) -> list[str]:
    """Return the events that a service emits."""
    return [*(EVENTS[method] for method in bound._hookable if method in EVENTS), *bound._options.events]


def find(app: Apex, path: str) -> BoundService:
    """Return the service of a path. Raises ConfigError if there is none."""
    path = path.strip("/") or "/"
    if path not in app.services:
        raise ConfigError(f"there is no service '{path}'.{suggestion(path, app.services)}")
    return app.services[path]


def chain(bound: BoundService, method: str) -> list[Entry]:
    """Return the hooks of a method and the method itself, in the order in which they run.

    An entry has ``type``, ``level`` (``app`` or ``service``), ``name`` and ``module``, and ``inside`` if the hook
    contains others. ``transaction`` is true if it runs inside the transaction that an earlier hook has begun.
    """
    steps = bound._steps[method]
    transactions = [step for step in in_order(steps) if step.hook is transaction]
    stored_together = [one for step in transactions for one in in_order(step.inner or ())]
    entries: list[Entry] = []
    for step in in_order(steps):
        entry = {"type": step.type, "level": step.level, **_shown(step.hook)}
        if step.is_method:
            entry = {"type": "method", "level": "service", **_named(getattr(type(bound.service), method))}
        if any(one is step for one in stored_together):
            entry["transaction"] = True
        entries.append(entry)
    return entries


def _shown(hook: AnyHook) -> Entry:
    branches = hook.inside if isinstance(hook, Composed) else {}
    inside: dict[str, list[Entry]] = {branch: [_shown(one) for one in hooks] for branch, hooks in branches.items()}
    when = {"when": _named(hook.predicate)["name"]} if isinstance(hook, iff) else {}
    return {**_named(hook), **when, **({"inside": inside} if inside else {})}


def _named(thing: Any) -> Entry:
    thing = unwrapped(thing)
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return {"name": name_of(thing), "module": named.__module__}


def service_lines(entries: list[Entry]) -> Iterator[str]:
    """Yield a line for each endpoint and one for the events, for people."""
    for entry in entries:
        yield f"{entry['path']}{'' if entry['endpoints'] else '  (internal)'}"
        for endpoint in entry["endpoints"]:
            yield f"{INDENT}{endpoint['verb']:<7} {endpoint['path']}  {endpoint['method']}"
        if entry["events"]:
            yield f"{INDENT}{'events':<7} {', '.join(entry['events'])}"


def chain_lines(entries: list[Entry]) -> Iterator[str]:
    """Yield a line for each hook, with its type, level, name and module. A bar marks those in a transaction."""
    for entry in entries:
        bar = "| " if "transaction" in entry else ""
        yield from _lines(entry, f"{bar}{entry['type']:<7} {entry['level']:<8}", f"{bar}{'':<16}", 0)


def _lines(entry: Entry, head: str, blank: str, depth: int) -> Iterator[str]:
    when = f" {entry['when']}" if "when" in entry else ""
    yield f"{INDENT}{head}{INDENT * depth}{entry['name']}{when}  {entry['module']}"
    for branch, hooks in entry.get("inside", {}).items():
        if branch == "else":
            yield f"{INDENT}{blank}{INDENT * depth}else"
        for hook in hooks:
            yield from _lines(hook, blank, blank, depth + 1)
