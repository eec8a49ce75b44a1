"""Access tokens: JSON Web Tokens as Feathers makes them, with its words for what is wrong with one."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeGuard
from uuid import uuid4

import jwt

from apex.cache import BoundedDict
from apex.encoding import timestamp
from apex.errors import NotAuthenticated

_DURATION = re.compile(r"([0-9]+)\s*(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_CLAIMS = ["exp", "iat", "aud", "iss", "jti"]
_TIMES = ("exp", "iat", "nbf")
_LAST_MOMENT = 253_402_300_799
_LONGEST = 8_192
_CLOCKS_DIFFER = 5
"""Seconds by which the clock of the process that issued a token may be ahead of this one's."""
_UNSIGNED = (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError)

Claims = dict[str, Any]


class Verified(NamedTuple):
    """A token's claims as they were verified, and when they hold: from ``begins`` until before ``ends``, in seconds
    since 1970. ``copy`` makes those that are given out: what a caller changes in them is its own.
    """

    begins: int
    ends: int
    claims: Claims
    copy: Callable[[Claims], Claims]


class Tokens:
    """Signs tokens with a secret, and verifies those signed with it or, while it is changed for another, with the
    ``previous`` one; ``options`` are Feathers' ``jwtOptions``.

    With a list of audiences a new token names all of them, and a token that names any of them is valid. With a
    ``subject`` among the options every token has that subject. With ``anyone`` a token needs none.

    Raises ValueError for an ``expiresIn`` that is neither seconds nor a duration such as ``1d``, and for an audience,
    issuer or subject that is no text.
    """

    def __init__(
        self, secret: str, options: Mapping[str, Any], previous: str | None = None, anyone: bool = False
    ) -> None:
        self.secret, self.previous = secret, previous
        self.header = dict(options.get("header", {"typ": "access"}))
        self.audience = _audience(options.get("audience", "https://yourdomain.com"))
        self.issuer = _text("issuer", options.get("issuer", "feathers"))
        self.subject = None if options.get("subject") is None else _text("subject", options["subject"])
        self._rules: Any = {
            "require": _CLAIMS if anyone else [*_CLAIMS, "sub"],
            "strict_aud": isinstance(self.audience, str),
            "verify_iat": False,
        }
        self.algorithm = options.get("algorithm", "HS256")
        self.lifetime = seconds(options.get("expiresIn", "1d"))
        self._verified: BoundedDict[str, Verified] = BoundedDict()

    def create(
        self, subject: Any, payload: Mapping[str, Any] | None = None, issued: int | None = None
    ) -> tuple[str, Claims]:
        """Return a token and its claims. The subject is a string: that of the options where None is given.

        ``issued`` is in seconds since 1970, by default now. It may be a second or so ahead.
        """
        subject = self.subject if subject is None else subject
        issued = int(time.time()) if issued is None else issued
        claims = {
            **(payload or {}),
            "iat": issued,
            "exp": issued + self.lifetime,
            "aud": self.audience,
            "iss": self.issuer,
            **({} if subject is None else {"sub": str(subject)}),
            "jti": str(uuid4()),
        }
        return jwt.encode(claims, self.secret, self.algorithm, self.header), claims

    def verify(self, token: Any) -> Claims:
        """The claims of a token. Raises NotAuthenticated with the reason.

        A token that was verified before is looked up, as a whole, and must only be of the moment still: its signature
        cannot go bad. One that is not of the moment is verified anew, so that the reason is always found in one place.
        """
        if not isinstance(token, str):
            raise _refused("jwt must be a string")
        known = self._verified.get(token)
        if known is not None and known.begins <= time.time() < known.ends:
            return known.copy(known.claims)
        claims = self._verify(token)
        self._verified[token] = _verified(self._alike(claims))
        return claims

    def _alike(self, claims: Claims) -> Claims:
        """The claims, with what tokens have alike once in memory: JSON makes it anew for each."""
        alike = {"aud": self.audience, "iss": self.issuer}
        return {sys.intern(name): value if value != alike.get(name) else alike[name] for name, value in claims.items()}

    def _verify(self, token: str) -> Claims:
        if len(token) > _LONGEST:
            raise _refused("jwt malformed")
        try:
            complete = self._decoded(token)
        except jwt.PyJWTError as error:
            raise self._reason(error, token) from None
        claims: Claims = complete["payload"]
        of_type = complete["header"].get("typ") == self.header.get("typ")
        if not of_type or not all(_is_moment(claims[name]) for name in _TIMES if name in claims):
            raise _refused("invalid token")
        if claims["iat"] > time.time() + _CLOCKS_DIFFER:
            raise _refused("invalid token")
        if self.subject is not None and claims.get("sub") != self.subject:
            raise _refused(f"jwt subject invalid. expected: {self.subject}")
        return claims

    def _decoded(self, token: str) -> dict[str, Any]:
        if self.previous is not None:
            with suppress(jwt.InvalidSignatureError):
                return self._signed_with(self.previous, token)
        return self._signed_with(self.secret, token)

    def _signed_with(self, secret: str, token: str) -> dict[str, Any]:
        return jwt.decode_complete(
            token, secret, [self.algorithm], audience=self.audience, issuer=self.issuer,
            options=self._rules,
        )  # fmt: skip

    def _reason(self, error: jwt.PyJWTError, token: str) -> NotAuthenticated:
        if isinstance(error, jwt.ExpiredSignatureError):
            return _untimely(token, "exp", "jwt expired", "TokenExpiredError", "expiredAt")
        if isinstance(error, jwt.ImmatureSignatureError):
            return _untimely(token, "nbf", "jwt not active", "NotBeforeError", "date")
        if isinstance(error, jwt.InvalidAudienceError):
            expected = self.audience if isinstance(self.audience, str) else " or ".join(self.audience)
            return _refused(f"jwt audience invalid. expected: {expected}")
        if isinstance(error, jwt.InvalidIssuerError):
            return _refused(f"jwt issuer invalid. expected: {self.issuer}")
        if isinstance(error, _UNSIGNED) and token.endswith("."):
            return _refused("jwt signature is required")
        if isinstance(error, jwt.InvalidSignatureError):
            return _refused("invalid signature")
        if isinstance(error, jwt.InvalidAlgorithmError):
            return _refused("invalid algorithm")
        return _refused("jwt malformed" if token.count(".") != 2 else "invalid token")


def seconds(duration: Any) -> int:
    """Seconds of a number, or of a string such as ``15m``, ``1d`` or, in milliseconds, ``5000``."""
    if isinstance(duration, int) and not isinstance(duration, bool):
        return duration
    text = str(duration).strip()
    match = _DURATION.fullmatch(text + "ms" if text.isdigit() else text)
    if match is None:
        raise ValueError(f"'{duration}' is not a duration: use seconds, or a string such as '1d'")
    return int(int(match[1]) * _SECONDS[match[2]])


def _audience(value: Any) -> str | list[str]:
    if isinstance(value, list | tuple) and value:
        return [_text("audience", one) for one in value]
    return _text("audience", value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"authentication.jwtOptions.{name} is {value!r}: it must be a text")
    return value


def _verified(claims: Claims) -> Verified:
    nested = any(isinstance(value, dict | list) for value in claims.values())
    copy = deepcopy if nested else dict
    return Verified(max(claims["iat"] - _CLOCKS_DIFFER, claims.get("nbf", 0)), claims["exp"], copy(claims), copy)


def _refused(message: str) -> NotAuthenticated:
    return NotAuthenticated(message, {"name": "JsonWebTokenError"})


def _untimely(token: str, claim: str, message: str, name: str, key: str) -> NotAuthenticated:
    moment = jwt.decode(token, options={"verify_signature": False}).get(claim)
    if not _is_moment(moment):
        return _refused("invalid token")
    return NotAuthenticated(message, {"name": name, key: timestamp(datetime.fromtimestamp(moment, UTC))})


def _is_moment(value: Any) -> TypeGuard[int]:
    """Whole seconds that a date can hold; PyJWT also takes fractions, and numbers in strings."""
    return type(value) is int and 0 <= value <= _LAST_MOMENT
