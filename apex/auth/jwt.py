"""Access tokens and their strategy: JSON Web Tokens in the form of Feathers, with the error texts of Feathers."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard
from uuid import uuid4

import jwt

from apex._moved import renamed_parameters
from apex.cache import BoundedDict
from apex.context import Params
from apex.encoding import timestamp
from apex.errors import NotAuthenticated

if TYPE_CHECKING:
    from apex.auth.service import AuthenticationService, Result

_DURATION = re.compile(r"([0-9]+)\s*(ms|s|m|h|d|w)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SCHEME = re.compile(r"(\S+)\s+(\S+)")
_SCHEMES = ("bearer", "jwt")
_CLAIMS = ["exp", "iat", "aud", "iss", "jti"]
_TIMES = ("exp", "iat", "nbf")
_MAX_TIME = 253_402_300_799
"""The last second that a date of Python can hold."""
_MAX_LENGTH = 8_192
_CLOCKS_DIFFER = 5
"""Seconds by which the clock of the process that issued a token may be ahead of this one's."""
_NOT_SIGNED = (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError)

Claims = dict[str, Any]


class Verified(NamedTuple):
    """The claims of a verified token. They hold from ``begins`` until before ``ends``, in seconds since 1970.

    Each caller gets a ``copy`` of the claims, which it may change.
    """

    begins: int
    ends: int
    claims: Claims
    copy: Callable[[Claims], Claims]


class Tokens:
    """Signs and verifies tokens with a secret.

    During a change of secrets, tokens signed with the ``previous`` one are valid as well. ``options`` are the
    ``jwtOptions`` of Feathers. With a list of audiences a new token names all of them, and a valid token names any of
    them. With a ``subject`` in the options every token has that subject::

        tokens = Tokens("at least 32 bytes of a random secret", {"expiresIn": "15m"})
        tokens.verify(tokens.create("7")[0])["sub"]

    Raises ValueError if ``expiresIn`` is not a number of seconds or a duration such as ``1d``, or if the audience,
    issuer or subject is not a string.
    """

    @renamed_parameters(anyone="not requires_subject")
    def __init__(
        self, secret: str, options: Mapping[str, Any], previous: str | None = None, requires_subject: bool = True
    ) -> None:
        self.secret: str = secret
        self.previous: str | None = previous
        self.header: dict[str, Any] = dict(options.get("header", {"typ": "access"}))
        self.audience: str | list[str] = _audience(options.get("audience", "https://yourdomain.com"))
        self.issuer: str = _text("issuer", options.get("issuer", "feathers"))
        self.subject: str | None = None if options.get("subject") is None else _text("subject", options["subject"])
        self._rules: Any = {
            "require": [*_CLAIMS, "sub"] if requires_subject else _CLAIMS,
            "strict_aud": isinstance(self.audience, str),
            "verify_iat": False,
        }
        self.algorithm: str = options.get("algorithm", "HS256")
        self.lifetime: int = parse_duration(options.get("expiresIn", "1d"))
        self._verified: BoundedDict[str, Verified] = BoundedDict()

    def create(
        self, subject: Any, payload: Mapping[str, Any] | None = None, issued: int | None = None
    ) -> tuple[str, Claims]:
        """Return a token and its claims.

        ``subject`` becomes a string, by default that of the options. ``payload`` has further claims. ``issued`` is in
        seconds since 1970, by default now. It may be about a second in the future.
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
        """Return the claims of a token. Raises NotAuthenticated with the reason.

        A verified token is cached, as its signature stays valid. Only its times are checked again. If they do not hold,
        the token is verified again, so that one place finds the reason.
        """
        if not isinstance(token, str):
            raise _refused("jwt must be a string")
        known = self._verified.get(token)
        if known is not None and known.begins <= time.time() < known.ends:
            return known.copy(known.claims)
        claims = self._verify(token)
        self._verified[token] = _verified(self._compacted(claims))
        return claims

    def _compacted(self, claims: Claims) -> Claims:
        """Return equal claims that share the strings that all tokens have. Parsed JSON has its own for each token."""
        shared = {"aud": self.audience, "iss": self.issuer}
        return {
            sys.intern(name): shared[name] if shared.get(name) == value else value for name, value in claims.items()
        }

    def _verify(self, token: str) -> Claims:
        if len(token) > _MAX_LENGTH:
            raise _refused("jwt malformed")
        try:
            complete = self._decode(token)
        except jwt.PyJWTError as error:
            raise self._reason(error, token) from None
        claims: Claims = complete["payload"]
        of_type = complete["header"].get("typ") == self.header.get("typ")
        if not of_type or not all(_is_time(claims[name]) for name in _TIMES if name in claims):
            raise _refused("invalid token")
        if claims["iat"] > time.time() + _CLOCKS_DIFFER:
            raise _refused("invalid token")
        if self.subject is not None and claims.get("sub") != self.subject:
            raise _refused(f"jwt subject invalid. expected: {self.subject}")
        return claims

    def _decode(self, token: str) -> dict[str, Any]:
        if self.previous is not None:
            with suppress(jwt.InvalidSignatureError):
                return self._decode_with(self.previous, token)
        return self._decode_with(self.secret, token)

    def _decode_with(self, secret: str, token: str) -> dict[str, Any]:
        return jwt.decode_complete(
            token, secret, [self.algorithm], audience=self.audience, issuer=self.issuer,
            options=self._rules,
        )  # fmt: skip

    def _reason(self, error: jwt.PyJWTError, token: str) -> NotAuthenticated:
        if isinstance(error, jwt.ExpiredSignatureError):
            return _expired_or_early(token, "exp", "jwt expired", "TokenExpiredError", "expiredAt")
        if isinstance(error, jwt.ImmatureSignatureError):
            return _expired_or_early(token, "nbf", "jwt not active", "NotBeforeError", "date")
        if isinstance(error, jwt.InvalidAudienceError):
            expected = self.audience if isinstance(self.audience, str) else " or ".join(self.audience)
            return _refused(f"jwt audience invalid. expected: {expected}")
        if isinstance(error, jwt.InvalidIssuerError):
            return _refused(f"jwt issuer invalid. expected: {self.issuer}")
        if isinstance(error, _NOT_SIGNED) and token.endswith("."):
            return _refused("jwt signature is required")
        if isinstance(error, jwt.InvalidSignatureError):
            return _refused("invalid signature")
        if isinstance(error, jwt.InvalidAlgorithmError):
            return _refused("invalid algorithm")
        return _refused("jwt malformed" if token.count(".") != 2 else "invalid token")


class JWTStrategy:
    """A strategy with an access token.

    A valid token is signed by this app, and has neither expired nor been revoked::

        authentication.register("jwt", JWTStrategy(authentication))
    """

    scheme: Mapping[str, Any] | None = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}

    def __init__(self, service: AuthenticationService) -> None:
        self.service = service

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        """Return the token and its claims. Raises NotAuthenticated."""
        token = authentication.get("accessToken")
        if not token:
            raise NotAuthenticated("No access token")
        claims = self.service.tokens.verify(token)
        if self.service.is_revoked(claims):
            raise NotAuthenticated("Token revoked", {"name": "JsonWebTokenError"})
        proof = {"strategy": "jwt", "accessToken": token, "payload": claims}
        return {"accessToken": token, "authentication": proof}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        """Return the token, its claims and the entity. Raises NotAuthenticated."""
        result = await self.verify(authentication)
        if self.service.entity is not None:
            subject = result["authentication"]["payload"]["sub"]
            result[self.service.entity] = await self.service.user_of(subject, params)
        return result

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """Return the token of ``Authorization: Bearer <token>``, or of a value without a scheme."""
        value = headers.get("authorization", "").strip()
        if not value:
            return None
        match = _SCHEME.fullmatch(value)
        if match is None:
            token = value if value and " " not in value else None
        else:
            scheme = match[1].lower()
            token = match[2] if scheme == "bearer" or any(known in scheme for known in _SCHEMES) else None
        return None if token is None else {"strategy": "jwt", "accessToken": token}


def parse_duration(duration: Any) -> int:
    """Return the seconds of a duration: a number of seconds, or a string such as ``15m``, ``1d`` or ``5000``.

    A string without a unit is in milliseconds, as in Feathers. Raises ValueError for anything else.
    """
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
        raise ValueError(f"authentication.jwtOptions.{name} is {value!r}: it must be a string")
    return value


def _verified(claims: Claims) -> Verified:
    nested = any(isinstance(value, dict | list) for value in claims.values())
    copy = deepcopy if nested else dict
    return Verified(max(claims["iat"] - _CLOCKS_DIFFER, claims.get("nbf", 0)), claims["exp"], copy(claims), copy)


def _refused(message: str) -> NotAuthenticated:
    return NotAuthenticated(message, {"name": "JsonWebTokenError"})


def _expired_or_early(token: str, claim: str, message: str, name: str, key: str) -> NotAuthenticated:
    seconds = jwt.decode(token, options={"verify_signature": False}).get(claim)
    if not _is_time(seconds):
        return _refused("invalid token")
    return NotAuthenticated(message, {"name": name, key: timestamp(datetime.fromtimestamp(seconds, UTC))})


def _is_time(value: Any) -> TypeGuard[int]:
    """Return True for whole seconds that a date can hold. PyJWT also accepts fractions, and numbers in strings."""
    return type(value) is int and 0 <= value <= _MAX_TIME
