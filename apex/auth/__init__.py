"""Authentication: the service, its strategies, access tokens, sessions, passwords and API keys.

A name is imported when it is first used, because hashing and signing load large libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_MODULES = {
    "APIKey": "api_keys",
    "APIKeyStrategy": "api_keys",
    "Attempt": "service",
    "AuthenticationService": "service",
    "Claims": "jwt",
    "Holder": "api_keys",
    "JWTStrategy": "strategies",
    "LocalStrategy": "strategies",
    "Passwords": "passwords",
    "Result": "strategies",
    "Session": "sessions",
    "Sessions": "sessions",
    "Strategy": "strategies",
    "Tokens": "jwt",
    "authenticate": "hooks",
    "hash_key": "api_keys",
    "new_key": "api_keys",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'apex.auth' has no attribute '{name}'")
    value = globals()[name] = getattr(import_module(f"apex.auth.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
