"""The secrets and the signatures of webhooks, as Standard Webhooks 1.0.0 describes them.

The key is what follows ``whsec_``, decoded from base64. The signature is the HMAC-SHA256 (RFC 2104) of the id, a dot,
the time in seconds since 1970, a dot and the body, written in base64 after ``v1,``.
"""

from __future__ import annotations

import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence

PREFIX = "whsec_"
KEY_BYTES = 32


def new_secret() -> str:
    """Return a secret with 256 random bits."""
    return PREFIX + b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def signed_headers(id: str, body: bytes, secrets: Sequence[str], moment: int) -> dict[str, str]:
    """Return the headers of a message. It has a signature for each of the secrets.

    ``moment`` is the time in seconds since 1970.
    """
    signed = b".".join((id.encode(), str(moment).encode(), body))
    signatures = (hmac.digest(b64decode(secret.removeprefix(PREFIX)), signed, "sha256") for secret in secrets)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(moment),
        "webhook-signature": " ".join(f"v1,{b64encode(signature).decode()}" for signature in signatures),
    }
