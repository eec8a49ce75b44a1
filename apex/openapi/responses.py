"""Responses: what comes back, the headers beside it, and every error in the form of its service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apex.describe import Facts, facts_of
from apex.errors import BY_CODE, FeathersError, PayloadTooLarge, PreconditionFailed, UnsupportedMediaType
from apex.openapi.components import Components
from apex.service import BoundService

Shape = dict[str, Any]

ERROR: Shape = {
    "title": "Error",
    "type": "object",
    "properties": {
        "name": {"type": "string", "examples": ["BadRequest"]},
        "message": {"type": "string"},
        "code": {"type": "integer", "examples": [400]},
        "className": {"type": "string", "examples": ["bad-request"]},
        "data": {"description": "What is known besides."},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "A sentence for each field that is wrong.",
        },
    },
    "required": ["name", "message", "code", "className"],
    "additionalProperties": False,
}

TEXTS = {
    400: "The request is wrong: `errors` says where.",
    401: "It is not known who calls.",
    403: "The caller may not do this.",
    404: "There is no such record.",
    405: "The service does not have this method.",
    408: "The body did not arrive in time.",
    409: "Another record is in the way, or the record is being changed by others.",
    412: "The record has changed: it does not have the tag of `If-Match`.",
    413: "The body is too large.",
    415: "The body is not sent as JSON, or it is compressed.",
    422: "The `Idempotency-Key` was used for another request.",
    429: "Too many requests.",
    500: "Something went wrong that is not the caller's fault.",
    503: "Unavailable: try again after `Retry-After`. Without that header the outcome of a change is unknown.",
}

HEADERS: dict[str, Shape] = {
    "X-Request-Id": {"schema": {"type": "string"}, "description": "The request's name in logs and in the audit."},
    "ETag": {"schema": {"type": "string"}, "description": "The tag of what was answered."},
    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds after which to try again."},
    "Allow": {"schema": {"type": "string"}, "description": "The verbs that there are."},
}
OF_ERRORS = {405: ("Allow",), 429: ("Retry-After",), 503: ("Retry-After",)}


class Responses:
    """The responses of one service, whose errors may have a form of their own."""

    def __init__(self, components: Components, bound: BoundService) -> None:
        self.components = components
        self.error = (facts_of(bound._options.errors) or Facts()).result or ERROR

    def success(self, text: str, shape: Any, content_types: Iterable[str], headers: dict[str, Shape]) -> Shape:
        content = {name: {"schema": shape if "json" in name else {"type": "string"}} for name in content_types}
        named = {name: self.header(name, said) for name, said in headers.items()}
        response = {"description": text, "headers": {**self.headers("X-Request-Id"), **named}}
        return {**response, "content": content} if content else response

    def errors(self, codes: Iterable[int]) -> dict[str, Shape]:
        return {str(code): self._error(code) for code in sorted(set(codes))}

    def headers(self, *names: str) -> dict[str, Shape]:
        return {name: self.header(name, HEADERS[name]) for name in names}

    def header(self, name: str, said: Shape) -> Shape:
        return self.components.named("headers", name, said)

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
