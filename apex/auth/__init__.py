"""Authentication: strategies, access tokens, sessions and API keys."""

from apex.auth.service import AuthenticationService, JWTStrategy, LocalStrategy, Strategy, authenticate

__all__ = ["AuthenticationService", "JWTStrategy", "LocalStrategy", "Strategy", "authenticate"]
