"""Authentication: strategies, access tokens, sessions and API keys."""

from apex.auth.api_keys import Holder, KeyStrategy, hashed, new_key
from apex.auth.service import AuthenticationService, JWTStrategy, LocalStrategy, Strategy, authenticate

__all__ = [
    "AuthenticationService",
    "Holder",
    "JWTStrategy",
    "KeyStrategy",
    "LocalStrategy",
    "Strategy",
    "authenticate",
    "hashed",
    "new_key",
]
