"""The encryption of secrets. A server that signs needs its secrets as they are, so a hash of them is not enough."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from apex.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class SecretStore:
    """Encrypts secrets with a key that is derived from ``authentication.secret``, by Fernet (AES and HMAC-SHA256).

    A copy of the database alone shows no secret. What was encrypted with ``authentication.previousSecret`` can still
    be read. Raises ConfigError without a secret.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        authentication: Mapping[str, Any] = settings.get("authentication") or {}
        secrets = [authentication.get("secret"), authentication.get("previousSecret")]
        if not secrets[0]:
            raise ConfigError(
                "The secrets of webhooks are encrypted with authentication.secret, and there is none: "
                'set it, as in {"authentication": {"secret": ...}}'
            )
        self._roots: list[str] = [secret for secret in secrets if secret]

    @cached_property
    def _fernet(self) -> MultiFernet:
        # Loading it takes some milliseconds and megabytes, which an app without webhooks does not pay.
        from cryptography.fernet import Fernet, MultiFernet

        keys = (hmac.digest(root.encode(), b"apex webhook secrets", "sha256") for root in self._roots)
        return MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])

    @property
    def is_rotating(self) -> bool:
        """True if some secrets may still be encrypted with the previous secret of the app."""
        return len(self._roots) > 1

    def encrypt(self, secret: str) -> str:
        """Return a secret as it is stored."""
        return self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """Return a stored secret. Raises ConfigError if it was encrypted with another secret of the app."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidToken:
            raise ConfigError(
                "The secret of a webhook was encrypted with another authentication.secret: set that one as "
                "authentication.previousSecret (APEX_PREVIOUS_SECRET)"
            ) from None

    def encrypt_again(self, stored: str) -> str:
        """Return a stored secret, encrypted with the present secret of the app. Raises ConfigError as ``decrypt``."""
        return self.encrypt(self.decrypt(stored))
