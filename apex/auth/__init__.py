"""Authentication: the service, its strategies, access tokens, sessions, passwords and API keys.

A name is imported when it is first used, because hashing and signing load large libraries.
"""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.auth.api_keys import APIKey, APIKeyStrategy, Holder, hash_key, new_key
    from apex.auth.jwt import Claims, JWTStrategy, Tokens
    from apex.auth.local import LocalStrategy
    from apex.auth.passwords import Passwords, hash_password
    from apex.auth.resets import PasswordResets
    from apex.auth.revocations import revoked_tokens_table
    from apex.auth.service import Attempt, AuthenticationService, Result, Strategy, authenticate
    from apex.auth.sessions import Session, Sessions

__all__ = [
    "APIKey",
    "APIKeyStrategy",
    "Attempt",
    "AuthenticationService",
    "Claims",
    "Holder",
    "JWTStrategy",
    "LocalStrategy",
    "PasswordResets",
    "Passwords",
    "Result",
    "Session",
    "Sessions",
    "Strategy",
    "Tokens",
    "authenticate",
    "hash_key",
    "hash_password",
    "new_key",
    "revoked_tokens_table",
]

__getattr__ = lazy_names(
    "apex.auth",
    {
        "api_keys": ("APIKey", "APIKeyStrategy", "Holder", "hash_key", "new_key"),
        "jwt": ("Claims", "JWTStrategy", "Tokens"),
        "local": ("LocalStrategy",),
        "passwords": ("Passwords", "hash_password"),
        "resets": ("PasswordResets",),
        "revocations": ("revoked_tokens_table",),
        "service": ("Attempt", "AuthenticationService", "Result", "Strategy", "authenticate"),
        "sessions": ("Session", "Sessions"),
    },
)
