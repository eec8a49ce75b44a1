"""Authentication: the service, its strategies, access tokens, sessions, passwords and API keys.

A name is imported when it is first used, because hashing and signing load large libraries.
"""

from typing import TYPE_CHECKING

from apex.lazy import lazy_names

if TYPE_CHECKING:
    from apex.auth.api_keys import APIKey, APIKeyStrategy, Holder, hash_key, new_key
    from apex.auth.hooks import authenticate
    from apex.auth.jwt import Claims, Tokens
    from apex.auth.passwords import Passwords
    from apex.auth.service import Attempt, AuthenticationService
    from apex.auth.sessions import Session, Sessions
    from apex.auth.strategies import JWTStrategy, LocalStrategy, Result, Strategy

__all__ = [
    "APIKey",
    "APIKeyStrategy",
    "Attempt",
    "AuthenticationService",
    "Claims",
    "Holder",
    "JWTStrategy",
    "LocalStrategy",
    "Passwords",
    "Result",
    "Session",
    "Sessions",
    "Strategy",
    "Tokens",
    "authenticate",
    "hash_key",
    "new_key",
]

__getattr__ = lazy_names(
    "apex.auth",
    {
        "api_keys": ("APIKey", "APIKeyStrategy", "Holder", "hash_key", "new_key"),
        "hooks": ("authenticate",),
        "jwt": ("Claims", "Tokens"),
        "passwords": ("Passwords",),
        "service": ("Attempt", "AuthenticationService"),
        "sessions": ("Session", "Sessions"),
        "strategies": ("JWTStrategy", "LocalStrategy", "Result", "Strategy"),
    },
)
