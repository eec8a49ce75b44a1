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

    def __init_subclass__(cls, code: int | None = None) -> None:
        if code is not None:
            cls.code = code
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


class BadRequest(FeathersError, code=400):
    """400: the request is malformed or invalid."""


class PayloadTooLarge(BadRequest, code=413):
    """413 with the name BadRequest, as clients know no other name."""


class URITooLong(BadRequest, code=414):
    """414 with the name BadRequest, as clients know no other name."""


class UnsupportedMediaType(BadRequest, code=415):
    """415 with the name BadRequest, as clients know no other name."""


class HeadersTooLarge(BadRequest, code=431):
    """431 with the name BadRequest, as clients know no other name."""


class NotAuthenticated(FeathersError, code=401):
    """401: the caller has not proved who it is."""


class PaymentError(FeathersError, code=402):
    """402: a payment is required."""


class Forbidden(FeathersError, code=403):
    """403: the caller may not do this."""


class NotFound(FeathersError, code=404):
    """404: there is no such record, service or path."""


class MethodNotAllowed(FeathersError, code=405):
    """405: the service does not have the method, or does not take many records."""


class NotAcceptable(FeathersError, code=406):
    """406: no representation is acceptable to the caller."""


class Timeout(FeathersError, code=408):
    """408: the request took too long."""


class Conflict(FeathersError, code=409):
    """409: the request conflicts with the stored records."""


class PreconditionFailed(Conflict, code=412):
    """412 with the name Conflict, as clients know no other name."""


class Gone(FeathersError, code=410):
    """410: the record has been removed for good."""


class LengthRequired(FeathersError, code=411):
    """411: the request needs a Content-Length."""


class Unprocessable(FeathersError, code=422):
    """422: the request is well formed, but cannot be processed."""


class TooManyRequests(FeathersError, code=429):
    """429: the caller has reached a limit."""


class GeneralError(FeathersError, code=500):
    """500: an unexpected error."""


class NotImplemented(FeathersError, code=501):
    """501: the server does not support this."""


class BadGateway(FeathersError, code=502):
    """502: a server behind this one gave a wrong answer."""


class Unavailable(FeathersError, code=503):
    """503 with the header ``Retry-After`` in seconds, unless ``retry_after`` is None."""

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
