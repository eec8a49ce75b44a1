"""The Feathers error family: what every failure looks like on the wire.

FeathersError
├── BadRequest 400 ── PayloadTooLarge 413  URITooLong 414  UnsupportedMediaType 415  HeadersTooLarge 431
├── NotAuthenticated 401   PaymentError 402   Forbidden 403   NotFound 404
├── MethodNotAllowed 405   NotAcceptable 406  Timeout 408     Conflict 409
├── Gone 410               LengthRequired 411 Unprocessable 422
├── TooManyRequests 429
└── GeneralError 500       NotImplemented 501 BadGateway 502  Unavailable 503
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "BY_CODE",
    "BadGateway",
    "BadRequest",
    "ConfigError",
    "Conflict",
    "FeathersError",
    "Forbidden",
    "GeneralError",
    "Gone",
    "HeadersTooLarge",
    "LengthRequired",
    "MethodNotAllowed",
    "NotAcceptable",
    "NotAuthenticated",
    "NotFound",
    "NotImplemented",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PaymentError",
    "PreconditionFailed",
    "Timeout",
    "TooManyRequests",
    "URITooLong",
    "Unavailable",
    "Unprocessable",
    "UnsupportedMediaType",
]

_WORD = re.compile(r"(?<!^)(?=[A-Z])")


class FeathersError(Exception):
    """An error with a name, a code and a class name, as the Feathers clients rebuild it.

    ``message`` may also be another exception or a mapping with a ``message`` key; ``data`` is any JSON value.
    ``errors`` (or ``data["errors"]``) maps a field to one sentence. ``headers`` go out with an HTTP response.
    """

    name: ClassVar[str] = "FeathersError"
    class_name: ClassVar[str] = "feathers-error"
    code: ClassVar[int] = 500

    def __init_subclass__(cls) -> None:
        if FeathersError in cls.__bases__:
            cls.name = cls.__name__
            cls.class_name = _WORD.sub("-", cls.__name__).lower()

    def __init__(
        self,
        message: str | Mapping[str, Any] | BaseException | None = None,
        data: Any = None,
        *,
        errors: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(message, Mapping):
            data, message = dict(message), None
        if isinstance(message, FeathersError):
            data, errors = message.data if data is None else data, errors or message.errors
        if isinstance(data, Mapping):
            data = dict(data)
            message = data.pop("message", message)
            errors = data.pop("errors", errors)
        self.message: str = "Error" if message is None or message == "" else str(message)
        self.data: Any = data
        self.errors: Any = dict(errors) if isinstance(errors, Mapping) else errors
        self.headers = dict(headers or {})
        super().__init__(self.message)

    def to_dict(self) -> dict[str, Any]:
        """The wire form; keys in the order of Feathers, ``data`` and ``errors`` only where they are set."""
        body = {"name": self.name, "message": self.message, "code": self.code, "className": self.class_name}
        if self.data is not None:
            body["data"] = self.data
        if self.errors is not None:
            body["errors"] = self.errors
        return body


class BadRequest(FeathersError):
    code = 400


class PayloadTooLarge(BadRequest):
    """413 under the name of BadRequest: the clients rebuild only names they know."""

    code = 413


class URITooLong(BadRequest):
    """414 under the name of BadRequest: the clients rebuild only names they know."""

    code = 414


class UnsupportedMediaType(BadRequest):
    """415 under the name of BadRequest: the clients rebuild only names they know."""

    code = 415


class HeadersTooLarge(BadRequest):
    """431 under the name of BadRequest: the clients rebuild only names they know."""

    code = 431


class NotAuthenticated(FeathersError):
    code = 401


class PaymentError(FeathersError):
    code = 402


class Forbidden(FeathersError):
    code = 403


class NotFound(FeathersError):
    code = 404


class MethodNotAllowed(FeathersError):
    code = 405


class NotAcceptable(FeathersError):
    code = 406


class Timeout(FeathersError):
    code = 408


class Conflict(FeathersError):
    code = 409


class PreconditionFailed(Conflict):
    """412 under the name of Conflict: the clients rebuild only names they know."""

    code = 412


class Gone(FeathersError):
    code = 410


class LengthRequired(FeathersError):
    code = 411


class Unprocessable(FeathersError):
    code = 422


class TooManyRequests(FeathersError):
    code = 429


class GeneralError(FeathersError):
    code = 500


class NotImplemented(FeathersError):
    code = 501


class BadGateway(FeathersError):
    code = 502


class Unavailable(FeathersError):
    """503 with ``Retry-After`` in seconds; without the header where ``retry_after`` is None."""

    code = 503

    def __init__(self, *args: Any, retry_after: int | None = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        if retry_after is not None:
            self.headers.setdefault("Retry-After", str(retry_after))


class OutcomeUnknown(Unavailable):
    """503 under the name of Unavailable, for a write that may or may not be stored.

    It has no ``Retry-After``: a client that repeats the write by itself could store it twice.
    """

    def __init__(self, *args: Any, retry_after: int | None = None, **options: Any) -> None:
        super().__init__(*args, retry_after=retry_after, **options)


BY_CODE = {cls.code: cls for cls in FeathersError.__subclasses__()}
"""The class of an HTTP status."""


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line that says what to change. Callers are never told."""
