"""Operations: what a method of a service takes over REST, and what it answers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from apex.adapters.base import Adapter
from apex.describe import ANY, Example
from apex.openapi.components import Components, component_name, noun_of, plural
from apex.openapi.facts import Known
from apex.openapi.parameters import header, parameters
from apex.openapi.responses import HEADERS, Responses
from apex.openapi.samples import samples
from apex.service import BoundService
from apex.types import STANDARD, taken_by

Shape = dict[str, Any]

JSON = "application/json"
ALWAYS = (400, 500, 503)
WITH_BODY = (408, 413, 415)
TITLES = {"find": "List {many}", "get": "Get {one}", "create": "Create {one}", "update": "Replace {one}",
          "patch": "Change {one}", "remove": "Remove {one}"}  # fmt: skip
VOWELS = ("a", "e", "i", "o")
RESULTS = {"find": "What was found.", "get": "The record.", "create": "What was made.", "update": "What it is now.",
           "patch": "What it is now.", "remove": "What was removed."}  # fmt: skip
IF_MATCH = {"schema": {"type": "string"}, "description": "Changes the record only while it has one of these tags."}
IF_NONE_MATCH = {"schema": {"type": "string"}, "description": "Tags that are known: 304 where one of them is right."}
CUSTOM = "The custom method to call; without it the record is created."


class Operations:
    """The operations of one service."""

    def __init__(self, components: Components, path: str, bound: BoundService) -> None:
        self.components, self.path, self.bound = components, path, bound
        self.responses = Responses(components, bound)
        self.id = ".".join(part for part in path.split("/") if part and not part.startswith(":"))

    def operation(self, method: str, known: Known, *, many: bool = False) -> Shape:
        """A standard method other than create."""
        return {
            **self._about([method], known, "many" if many else ""),
            "parameters": [*self._parameters(method, known, many), *self._conditions(method, many)],
            **({"requestBody": self._body([method])} if "data" in STANDARD[method] else {}),
            "responses": {**self._successes(method, known, many), **self.responses.errors(self._errors(method, known))},
            **({} if many and not known.collection else self._samples({method: known})),
        }

    def posted(self, methods: Sequence[str]) -> Shape:
        """Create and the custom methods, which share a path and are told apart by a header."""
        known = {method: Known(self.bound, method) for method in methods}
        responses: Shape = {}
        for method in methods:
            for status, response in self._successes(method, known[method], False).items():
                responses[status] = _either(responses.get(status), response)
        codes = [405, *(code for method in methods for code in self._errors(method, known[method]))]
        given = [parameter for method in methods for parameter in self._parameters(method, known[method])]
        unique = {parameter["name"]: parameter for parameter in given}
        return {
            **self._about(methods, known[methods[0]]),
            "parameters": [*unique.values(), *_method_header(methods)],
            "requestBody": self._body(methods),
            "responses": {**responses, **self.responses.errors(codes)},
            **self._samples(known),
        }

    def _about(self, methods: Sequence[str], known: Known, *more: str) -> Shape:
        method, description = methods[0], "\n\n".join(self._described(methods))
        many = "many" in more and not known.collection
        optional: list[Shape] = [{}] if ANY in known.listed("strategies") else []
        security = [*optional, *({name: []} for name in self._strategies(known))]
        return {
            "tags": [self.path],
            "operationId": ".".join(filter(None, (self.id, method, *more))),
            "summary": " / ".join(self.summary(method, many) for method in methods),
            **({"description": description} if description else {}),
            **({"security": security} if security else {}),
        }

    def summary(self, method: str, many: bool = False) -> str:
        """Return what the service calls a method in its ``summaries``, or a title made of its noun."""
        own: str | None = getattr(self.bound.service, "summaries", {}).get(method)
        if own is not None and not many:
            return own
        noun = noun_of(self.bound)
        one = plural(noun) if many else f"{'an' if noun.lower().startswith(VOWELS) else 'a'} {noun}"
        if method in TITLES:
            return TITLES[method].format(one=one, many=plural(noun))
        words = re.sub(r"[\W_]+|(?<=[a-z])(?=[A-Z])", " ", method).strip().lower()
        return f"{words.capitalize()} {plural(noun)}"

    def _described(self, methods: Sequence[str]) -> Iterator[str]:
        """Yield the docstrings of custom methods, the limits of bodies, and the keys that lists can be asked for."""
        for method in methods:
            if method not in STANDARD and (text := inspect.getdoc(getattr(self.bound.service, method))):
                yield f"`{method}`: {text.replace('``', '`')}"
            if (limit := self.bound._options.body_limits.get(method)) is not None:
                yield f"The body of `{method}` may have {limit.size:,} bytes."
        if methods == ["find"] and (paths := getattr(self.bound.service, "paths", None)):
            names = " and ".join(f"`{name}.KEY`" for name in paths)
            yield f"Keys of JSON are asked for and sorted by as {names}, with operators as other fields."

    def _strategies(self, known: Known) -> list[str]:
        named = known.listed("strategies")
        schemes = self.components.schemes
        return list(schemes) if ANY in named else [name for name in named if name in schemes]

    def _samples(self, known: Mapping[str, Known]) -> Shape:
        """How the methods of an operation are called, where the service has examples."""
        url = f"http://localhost:{self.components.app.get('port') or 3030}"
        written: list[Shape] = []
        for method, example in self._examples(known).items():
            scheme = next((self.components.schemes[name] for name in self._strategies(known[method])), {})
            written += samples(url, self.path, method, example, scheme)
        return {"x-codeSamples": written} if written else {}

    def _examples(self, methods: Iterable[str]) -> dict[str, Example]:
        given: Mapping[str, Example] = getattr(self.bound.service, "examples", {})
        return {method: given[method] for method in methods if method in given}

    def _parameters(self, method: str, known: Known, many: bool = False) -> list[Shape]:
        asked = parameters(self.components, self.bound, method, known, many=many)
        return [*asked, *(header(name, said) for name, said in known.sends.items())]

    def _conditions(self, method: str, many: bool) -> list[Shape]:
        if method in ("find", "get"):
            return [header("If-None-Match", IF_NONE_MATCH)]
        return [header("If-Match", IF_MATCH)] if self._is_conditional(method) and not many else []

    def _is_conditional(self, method: str) -> bool:
        return method in ("update", "patch", "remove") and "get" in self.bound._options.methods

    def _body(self, methods: Sequence[str]) -> Shape:
        shapes = {method: self.data(method) for method in methods}
        unique = [shape for place, shape in enumerate(shapes.values()) if shape not in list(shapes.values())[:place]]
        given = self._examples(methods)
        examples = {name: {"summary": self.summary(name), "value": example.data} for name, example in given.items()}
        media = {"schema": unique[0] if len(unique) == 1 else {"anyOf": unique}}
        return {"required": True, "content": {JSON: {**media, **({"examples": examples} if examples else {})}}}

    def data(self, method: str) -> Shape:
        """The shape of what a method takes."""
        data = Known(self.bound, method).data
        shape = {"type": "object"}
        if data is not None:
            shape = self.components.shape(data, component_name(self.bound) + method.capitalize(), method)
        if method == "create" and takes_many(self.bound, method):
            return {"anyOf": [shape, {"type": "array", "items": shape}]}
        return shape

    def _successes(self, method: str, known: Known, many: bool) -> Shape:
        shape = self.result(method, known, many)
        types = known.listed("content_types") or [JSON]
        tagged = method in ("find", "get")
        headers = {**known.answers, **({"ETag": HEADERS["ETag"]} if tagged else {})}
        statuses = known.last("statuses") or [201 if method == "create" else 200]
        found = {
            str(status): self.responses.success(RESULTS.get(method) or f"What {method} gives.", shape, types, headers)
            for status in statuses
        }
        if method not in STANDARD and known.last("result") is None:
            found["204"] = self.responses.success("There is nothing to say.", None, (), {})
        if tagged:
            found["304"] = self.responses.success("As it is known.", None, (), {"ETag": HEADERS["ETag"]})
        return found

    def result(self, method: str, known: Known, many: bool = False) -> Shape:
        """The shape of what a method gives."""
        said, bound = known.last("result"), self.bound
        if said is not None and not isinstance(said, str):
            return self.components.shape(said, f"{component_name(bound)}{method.capitalize()}Result")
        if said == "page" or (said is None and method == "find" and isinstance(bound.service, Adapter)):
            pages = not isinstance(bound.service, Adapter) or bound.service.paginate
            return self.components.page(bound) if pages else {"type": "array", "items": self.components.record(bound)}
        if method not in STANDARD and said is None:
            return {}
        record = self.components.record(bound)
        return {"type": "array", "items": record} if many else record

    def _errors(self, method: str, known: Known) -> list[int]:
        takes_data = "data" in taken_by(method)
        codes = [*ALWAYS, *known.listed("errors"), *(WITH_BODY if takes_data else ())]
        if "id" in STANDARD.get(method, ()) or ":" in self.path:
            codes.append(404)
        if method not in ("find", "get"):
            codes.append(409)
        return [*codes, *([412] if self._is_conditional(method) else [])]


def takes_many(bound: BoundService, method: str) -> bool:
    """Whether a method makes a list of records at once, or is called without an id for all that a query finds."""
    service = bound.service
    if not isinstance(service, Adapter) or method not in ("create", "patch", "remove"):
        return False
    return service.multi is True or method in (service.multi or ())


def _method_header(methods: Sequence[str]) -> list[Shape]:
    custom = [method for method in methods if method not in STANDARD]
    if not custom:
        return []
    said: Shape = {"schema": {"type": "string", "enum": custom}, "description": CUSTOM}
    return [header("X-Service-Method", {**said, "required": "create" not in methods})]


def _either(one: Shape | None, other: Shape) -> Shape:
    """The response of two methods that share a status."""
    if one is None:
        return other
    content = dict(one.get("content", {}))
    for name, media in other.get("content", {}).items():
        known = content.get(name, media)["schema"]
        shapes = known["anyOf"] if set(known) == {"anyOf"} else [known]
        shapes = [*shapes, *([] if media["schema"] in shapes else [media["schema"]])]
        content[name] = {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}
    return {**one, "headers": {**one["headers"], **other["headers"]}, "content": content}
