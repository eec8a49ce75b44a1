"""Clients: the addresses that requests come from, and the limits of their connections."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

_WITH_PORT = re.compile(r"([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?")

BODY_SECONDS = 30
"""Seconds that the body of a request may take."""


class HttpLimits(NamedTuple):
    """The limits of HTTP connections, as in the setting ``http``.

    A header has at most ``headerBytes`` and ``headerCount`` fields. It arrives within ``headerSeconds``, and the body
    within ``requestSeconds``. A connection without a request is closed after ``idleSeconds``.
    """

    headerBytes: int = 64 * 1024
    headerCount: int = 100
    headerSeconds: int = 10
    requestSeconds: int = BODY_SECONDS
    idleSeconds: int = 5
    maxConnections: int = 10_000


def address_of(scope: MutableMapping[str, Any], headers: Mapping[str, str], proxies: int) -> str | None:
    """Return the address of a request's client, or None if it is unknown.

    It is the other end of the connection. Behind this number of ``proxies`` it is the address that the first of them
    has added to ``X-Forwarded-For``. It is unknown if that header is too short, or if it comes over a private network
    while no proxies are configured. Then the other end is probably a proxy of many clients.
    """
    client, forwarded = scope.get("client"), headers.get("x-forwarded-for")
    peer: str | None = client[0] if client else None
    if forwarded is None:
        return peer
    if proxies:
        addresses = forwarded.split(",")
        return addresses[-proxies].strip() if len(addresses) >= proxies else None
    return None if peer is None or _is_private(peer) else peer


def network_of(address: str) -> str:
    """Return the network of a client. With IPv6 a client has all addresses that begin with the same 64 bits.

    A port, which some proxies add, is left out, as each connection has another one.
    """
    match = _WITH_PORT.fullmatch(address)
    try:
        parsed = ip_address(match[1].strip("[]") if match else address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, IPv6Address):
        parsed = parsed.ipv4_mapped or parsed
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))


@lru_cache(1_024)
def _is_private(address: str) -> bool:
    try:
        return ip_address(address).is_private
    except ValueError:
        return False
