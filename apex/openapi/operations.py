"""The operations of an OpenAPI document: parameters, body and responses of each method of a service."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from apex.adapters.base import Adapter
from apex.describe import ANY, Example, Facts, facts_of
from apex.errors import BY_CODE, FeathersError, PayloadTooLarge, PreconditionFailed, UnsupportedMediaType
from apex.openapi.components import Components, capitals, component_name, has_position, noun_of, plural
from apex.openapi.facts import MethodFacts
from apex.openapi.nested import data_shape
from apex.openapi.parameters import header, parameters, with_example
from apex.openapi.samples import samples
from apex.service import BoundService
from apex.types import READS, STANDARD, taken_by

Shape = dict[str, Any]

JSON = "application/json"
ALWAYS = (400, 500, 503)
WITH_BODY = (408, 413, 415)
TITLES = {"find": "List {many}", "get": "Get {one}", "create": "Create {one}", "update": "Replace {one}",
          "patch": "Change {one}", "remove": "Remove {one}", "upsert": "Create or change {one}"}  # fmt: skip
VOWELS = ("a", "e", "i", "o")
RESULTS = {
    "find": "The records.",
    "get": "The record.",
    "create": "The new record.",
    "update": "The changed record.",
    "patch": "The changed record.",
    "remove": "The removed record.",
}
IF_MATCH: Shape = {
    "schema": {"type": "string"},
    "example": "*",
    "description": "The `ETag` of an earlier response, or `*`. The record is changed only if it is still the same.",
}
IF_NONE_MATCH: Shape = {
    "schema": {"type": "string"},
    "example": '"0"',
    "description": "The `ETag` of an earlier response. The response is 304 if nothing has changed.",
}

ERROR: Shape = {
    "title": "Error",
    "type": "object",
    "properties": {
        "name": {"type": "string", "examples": ["BadRequest"]},
        "message": {"type": "string"},
        "code": {"type": "integer", "examples": [400]},
        "className": {"type": "string", "examples": ["bad-request"]},
        "data": {"description": "More about the error."},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "A message for each wrong field.",
        },
    },
    "required": ["name", "message", "code", "className"],
    "additionalProperties": False,
}

TEXTS = {
    400: "The request is invalid. `errors` names the wrong fields.",
    401: "The caller is not authenticated.",
    403: "The caller is not allowed to do this.",
    404: "The record does not exist.",
    405: "The service does not have this method.",
    408: "The body did not arrive in time.",
    409: "The record conflicts with another one, or others are changing it now.",
    410: "The log cannot go on from this position. Read the records again.",
    412: "The record has changed. Its tag differs from `If-Match`.",
    413: "The body is too large.",
    415: "The body is not JSON, or it is compressed.",
    422: "The `Idempotency-Key` was used for a different request.",
    429: "Too many requests.",
    500: "The server failed.",
    503: "The service is unavailable. Try again after `Retry-After`. Without that header a change may have been made.",
}

HEADERS: dict[str, Shape] = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "The id of the request in logs and in the audit."},
    "ETag": {"schema": {"type": "string"}, "description": "The tag of this version of the answer."},
    "Position": {
        "schema": {"type": "string"},
        "description": "The position in the log of events from which a client can follow this answer.",
    },
    "Retry-After": {"schema": {"type": "integer"}, "description": "The number of seconds to wait before another try."},
    "Allow": {"schema": {"type": "string"}, "description": "The allowed HTTP methods."},
}
OF_ERRORS = {405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}


class Responses:
    """The responses of one service. A service may have its own form of errors."""

    def __init__(self, components: Components, bound: BoundService) -> None:
        self.components: Components = components
        self.error: Mapping[str, Any] = (facts_of(bound._options.errors) or Facts()).result or ERROR

    def success(self, text: str, shape: Any, content_types: Iterable[str], headers: dict[str, Shape]) -> Shape:
        """Return a response with a shape for each content type that is JSON."""
        content = {name: {"schema": shape if "json" in name else {"type": "string"}} for name in content_types}
        named = {name: self.components.named("headers", name, shape) for name, shape in headers.items()}
        response = {"description": text, "headers": {**self.headers("X-Request-Id"), **named}}
        return {**response, "content": content} if content else response

    def errors(self, codes: Iterable[int]) -> dict[str, Shape]:
        """Return the responses of these errors by their status."""
        return {str(code): self._error(code) for code in sorted(set(codes))}

    def headers(self, *names: str) -> dict[str, Shape]:
        """Return references to headers of ``HEADERS``."""
        return {name: self.components.named("headers", name, HEADERS[name]) for name in names}

    def _error(self, code: int) -> Shape:
        shape = self.components.shape(self.error, "")
        response = {
            "description": TEXTS.get(code) or _class(code).__name__,
            "headers": self.headers("X-Request-Id", *OF_ERRORS.get(code, ())),
            "content": {"application/json": {"schema": shape}},
        }
        return self.components.named("responses", f"{self.error['title']}{code}", response)


def _class(code: int) -> type[FeathersError]:
    return {412: PreconditionFailed, 413: PayloadTooLarge, 415: UnsupportedMediaType}.get(code) or BY_CODE[code]


class Operations:
    """The operations of one service."""

    def __init__(self, components: Components, path: str, bound: BoundService) -> None:
        self.components: Components = components
        self.path: str = path
        self.bound: BoundService = bound
        self.responses: Responses = Responses(components, bound)
        self.id: str = " ".join(part for part in path.split("/") if part and not part.startswith(":"))

    def operation(self, method: str, known: MethodFacts, *, many: bool = False) -> Shape:
        """Return the operation of a method. With ``many`` it is called for all records of a query."""
        codes = self._errors(method, known)
        return {
            **self._about(method, known, many and not known.collection),
            "parameters": [*self._parameters(method, known, many), *self._conditions(method, many)],
            **({"requestBody": self._body(method)} if "data" in taken_by(method) else {}),
            "responses": {**self._successes(method, known, many), **self.responses.errors(codes)},
            **({} if many and not known.collection else self._samples(method, known)),
        }

    def _about(self, method: str, known: MethodFacts, many: bool) -> Shape:
        description = "\n\n".join(self._described(method))
        optional: list[Shape] = [{}] if ANY in known.listed("strategies") else []
        return {
            "tags": [self.path],
            "operationId": camel_case(f"{self.id} {method}{' many' if many else ''}"),
            "summary": self.summary(method, many),
            **({"description": description} if description else {}),
            **({} if self.bound._policy is None else {"x-roles": list(self.bound._policy.shown(method))}),
            # Without strategies everybody may call the method, which an empty list says.
            "security": [*optional, *({name: []} for name in self._strategies(known))],
        }

    def summary(self, method: str, many: bool = False) -> str:
        """Return the service's own summary of a method, or one that names the records: 'List notes'."""
        own: str | None = getattr(self.bound.service, "summaries", {}).get(method)
        if own is not None and not many:
            return own
        noun = noun_of(self.bound)
        one = plural(noun) if many else f"{'an' if noun.lower().startswith(VOWELS) else 'a'} {noun}"
        if method in TITLES:
            return TITLES[method].format(one=one, many=plural(noun))
        words = re.sub(r"[\W_]+|(?<=[a-z])(?=[A-Z])", " ", method).strip().lower()
        return f"{words.capitalize()} {plural(noun)}"

    def _described(self, method: str) -> Iterator[str]:
        """Yield the docstring of a custom method, the limit of its body, and the JSON keys that a query may use."""
        if method not in STANDARD and (text := inspect.getdoc(getattr(self.bound.service, method))):
            yield text.replace("``", "`")
        if (limit := self.bound._options.body_limits.get(method)) is not None:
            yield f"The body may have up to {limit.size:,} bytes."
        if method == "find" and (paths := getattr(self.bound.service, "paths", None)):
            names = " and ".join(f"`{name}.KEY`" for name in paths)
            yield f"Filter and sort by keys of JSON as {names}, with operators like other fields."

    def _strategies(self, known: MethodFacts) -> list[str]:
        named = known.listed("strategies")
        schemes = self.components.schemes
        return list(schemes) if ANY in named else [name for name in named if name in schemes]

    def _samples(self, method: str, known: MethodFacts) -> Shape:
        """Return code samples if the service has an example of the method."""
        example = self._example(method)
        if example is None:
            return {}
        url = f"http://localhost:{self.components.app.get('port') or 3030}"
        scheme = next((self.components.schemes[name] for name in self._strategies(known)), {})
        return {"x-codeSamples": samples(url, self.path, method, example, scheme)}

    def _example(self, method: str) -> Example | None:
        given: Mapping[str, Example] = getattr(self.bound.service, "examples", {})
        return given.get(method)

    def _parameters(self, method: str, known: MethodFacts, many: bool = False) -> list[Shape]:
        example = self._example(method) or Example()
        query = parameters(self.components, self.bound, method, known, many=many)
        headers = [header(name, shape) for name, shape in known.sends.items()]
        return [with_example(one, example.query) for one in query] + [
            with_example(one, example.headers) for one in headers
        ]

    def _conditions(self, method: str, many: bool) -> list[Shape]:
        if method in READS:
            return [header("If-None-Match", IF_NONE_MATCH)]
        return [header("If-Match", IF_MATCH)] if self._is_conditional(method) and not many else []

    def _is_conditional(self, method: str) -> bool:
        return method in ("update", "patch", "remove") and "get" in self.bound._options.methods

    def _body(self, method: str) -> Shape:
        example = self._example(method)
        shown = {} if example is None else {"example": example.data}
        return {"required": True, "content": {JSON: {"schema": self.data(method), **shown}}}

    def data(self, method: str) -> Shape:
        """Return the shape of a method's data."""
        shape = data_shape(self.components, self.bound, method)
        if method == "create" and takes_many(self.bound, method):
            return {"anyOf": [shape, {"type": "array", "items": shape}]}
        return shape

    def _successes(self, method: str, known: MethodFacts, many: bool) -> Shape:
        shape = self.result(method, known, many)
        types = known.listed("content_types") or [JSON]
        tagged = method in READS
        own = ("ETag", *(["Position"] if has_position(self.bound) else [])) if tagged else ()
        of_read = {name: HEADERS[name] for name in own}
        headers = {**known.answers, **of_read}
        statuses = known.last("statuses") or [201 if method == "create" else 200]
        found = {
            str(status): self.responses.success(
                RESULTS.get(method) or f"The result of `{method}`.", shape, types, headers
            )
            for status in statuses
        }
        if method not in STANDARD and known.last("result") is None:
            found["204"] = self.responses.success("The method has no result.", None, (), {})
        if tagged:
            found["304"] = self.responses.success("The answer has not changed.", None, (), of_read)
        return found

    def result(self, method: str, known: MethodFacts, many: bool = False) -> Shape:
        """Return the shape of a method's result."""
        declared, bound = known.last("result"), self.bound
        if declared is not None and not isinstance(declared, str):
            return self.components.shape(declared, f"{component_name(bound)}{method.capitalize()}Result")
        if declared == "page" or (declared is None and method == "find" and isinstance(bound.service, Adapter)):
            pages = not isinstance(bound.service, Adapter) or bound.service.paginate
            return self.components.page(bound) if pages else {"type": "array", "items": self.components.record(bound)}
        if method not in STANDARD and declared is None:
            return {}
        record = self.components.record(bound)
        return {"type": "array", "items": record} if many else record

    def _errors(self, method: str, known: MethodFacts) -> list[int]:
        takes_data = "data" in taken_by(method)
        codes = [*ALWAYS, *known.listed("errors"), *(WITH_BODY if takes_data else ())]
        if "id" in STANDARD.get(method, ()) or ":" in self.path:
            codes.append(404)
        if method not in READS:
            codes.append(409)
        return [*codes, *([412] if self._is_conditional(method) else [])]


def takes_many(bound: BoundService, method: str) -> bool:
    """Return True if create accepts a list of records, or if the method may be called for all records of a query."""
    service = bound.service
    if not isinstance(service, Adapter) or method not in ("create", "patch", "remove"):
        return False
    return service.multi is True or method in (service.multi or ())


def camel_case(text: str) -> str:
    """Return the words of a text as one name: ``supportTicketsFind`` for ``support-tickets find``."""
    words = capitals(text)
    return words[:1].lower() + words[1:]
