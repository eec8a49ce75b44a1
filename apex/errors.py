"""The errors of Feathers, as they go to callers.

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
    "BY_CODE", "BadGateway", "BadRequest", "ConfigError", "Conflict", "FeathersError", "Forbidden", "GeneralError",
    "Gone", "HeadersTooLarge", "LengthRequired", "MethodNotAllowed", "NotAcceptable", "NotAuthenticated", "NotFound",
    "NotImplemented", "OutcomeUnknown", "PayloadTooLarge", "PaymentError", "PreconditionFailed", "Timeout",
    "TooManyRequests", "URITooLong", "Unavailable", "Unprocessable", "UnsupportedMediaType",
]  # fmt: skip

_WORD = re.compile(r"(?<!^)(?=[A-Z])")


class FeathersError(Exception):
    """An error with a name, a code and a class name, from which the clients of Feathers make the same error.

    ::

        raise BadRequest("Invalid data", errors={"text": "Is required"})

    ``message`` may also be another exception, or a mapping with the key ``message``. ``data`` is any JSON value.
    ``errors``, or ``data["errors"]``, maps fields to one sentence each. ``headers`` are sent with an HTTP response.
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
        self.headers: dict[str, str] = dict(headers or {})
        super().__init__(self.message)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as callers get it: ``name``, ``message``, ``code``, ``className``, ``data``, ``errors``.

        The last two are left out if they are None.
        """
        body = {"name": self.name, "message": self.message, "code": self.code, "className": self.class_name}
        if self.data is not None:
            body["data"] = self.data
        if self.errors is not None:
            body["errors"] = self.errors
        return body


class BadRequest(FeathersError):
    """400: the request is malformed or invalid."""

    code = 400


class PayloadTooLarge(BadRequest):
    """413 with the name BadRequest, as clients know no other name."""

    code = 413


class URITooLong(BadRequest):
    """414 with the name BadRequest, as clients know no other name."""

    code = 414


class UnsupportedMediaType(BadRequest):
    """415 with the name BadRequest, as clients know no other name."""

    code = 415


class HeadersTooLarge(BadRequest):
    """431 with the name BadRequest, as clients know no other name."""

    code = 431


class NotAuthenticated(FeathersError):
    """401: the caller has not proved who it is."""

    code = 401


class PaymentError(FeathersError):
    """402: a payment is required."""

    code = 402


class Forbidden(FeathersError):
    """403: the caller may not do this."""

    code = 403


class NotFound(FeathersError):
    """404: there is no such record, service or path."""

    code = 404


class MethodNotAllowed(FeathersError):
    """405: the service does not have the method, or does not take many records."""

    code = 405


class NotAcceptable(FeathersError):
    """406: no representation is acceptable to the caller."""

    code = 406


class Timeout(FeathersError):
    """408: the request took too long."""

    code = 408


class Conflict(FeathersError):
    """409: the request conflicts with the stored records."""

    code = 409


class PreconditionFailed(Conflict):
    """412 with the name Conflict, as clients know no other name."""

    code = 412


class Gone(FeathersError):
    """410: the record has been removed for good."""

    code = 410


class LengthRequired(FeathersError):
    """411: the request needs a Content-Length."""

    code = 411


class Unprocessable(FeathersError):
    """422: the request is well formed, but cannot be processed."""

    code = 422


class TooManyRequests(FeathersError):
    """429: the caller has reached a limit."""

    code = 429


class GeneralError(FeathersError):
    """500: an unexpected error."""

    code = 500


class NotImplemented(FeathersError):
    """501: the server does not support this."""

    code = 501


class BadGateway(FeathersError):
    """502: a server behind this one gave a wrong answer."""

    code = 502


class Unavailable(FeathersError):
    """503 with the header ``Retry-After`` in seconds, unless ``retry_after`` is None."""

    code = 503

    def __init__(self, *args: Any, retry_after: int | None = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        if retry_after is not None:
            self.headers.setdefault("Retry-After", str(retry_after))


class OutcomeUnknown(Unavailable):
    """503 with the name Unavailable, for a write that may or may not be stored.

    It has no ``Retry-After``, as a client that repeats the write by itself could store it twice.
    """

    def __init__(self, *args: Any, retry_after: int | None = None, **options: Any) -> None:
        super().__init__(*args, retry_after=retry_after, **options)


BY_CODE = {cls.code: cls for cls in FeathersError.__subclasses__()}
"""The class of an HTTP status."""


class ConfigError(Exception):
    """An error in the configuration. Its message, one line, says what to change. Callers never get it."""
