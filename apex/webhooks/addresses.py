"""The addresses that webhooks may be sent to: their URLs, and the IP addresses of their hosts.

A webhook makes this server send requests to a URL of somebody else's choice. Without these checks it could reach
servers that only this one can reach, such as a database or the metadata of a cloud (server-side request forgery).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

LONGEST_URL = 2_048
LOWEST_PORT = 1_024
"""The lowest port beside 443. Ports below it belong to services such as mail and SSH."""

RESOLVERS = 8
"""Host names that a process looks up at the same time. One that is not answered holds a thread for some seconds."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""An ``async def`` function that returns the IP addresses of a host name. It is given the name and the port."""

_CARRIERS = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"), ip_network("2001::/32"))
"""IPv6 networks whose addresses carry an IPv4 address: NAT64 (RFC 6052, RFC 8215) and Teredo (RFC 4380)."""
_METADATA = (ip_address("168.63.129.16"), ip_address("100.100.100.200"), ip_address("192.0.0.192"))
"""Addresses at which clouds serve their machines, outside of the networks that are private in any case."""
_LOCAL_NAMES = re.compile(r"(.*\.)?(localhost|local|internal|intranet|lan|home\.arpa)\.?", re.IGNORECASE)
_PRINTABLE = re.compile(r"[!-~]+")
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.?", re.IGNORECASE)
"""A host name (RFC 1123). Its last label begins with a letter, as resolvers take ``127.1`` for an address."""


class ForbiddenAddress(Exception):
    """The error for an address that no webhook may be sent to. Its text is the rule."""


def is_public(address: Address) -> bool:
    """Return True if an address belongs to the public internet, also if IPv6 carries an IPv4 address.

    Networks that translate to IPv4 are refused altogether, as their targets depend on the translator.
    """
    if isinstance(address, IPv6Address):
        if any(address in network for network in _CARRIERS) or address.is_site_local:
            return False
        carried = address.ipv4_mapped or address.sixtofour
        if carried is not None:
            return is_public(carried)
        if int(address) >> 32 == 0:  # ``::10.0.0.1``, the outdated form for IPv4.
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address in _METADATA)


class Addresses:
    """The addresses that webhooks may be sent to: public ones, and those in ``networks``.

    ``resolving`` returns the IP addresses of a host name, by default with the DNS of the operating system::

        addresses = Addresses(["10.1.0.0/16"])
        addresses.require_url("https://example.com/webhooks")
    """

    def __init__(self, networks: Sequence[str] = (), resolving: Resolve | None = None) -> None:
        self.networks: tuple[Network, ...] = tuple(ip_network(network) for network in networks)
        self._resolve: Resolve = resolving or resolve

    def require_url(self, url: str) -> None:
        """Raise ForbiddenAddress unless a webhook may have this URL. Its host is not looked up."""
        if len(url) > LONGEST_URL:
            raise ForbiddenAddress(f"Must have at most {LONGEST_URL:,} characters")
        if not _PRINTABLE.fullmatch(url):
            raise ForbiddenAddress(
                "Must have ASCII characters without spaces: write others as %C3%A9, and a host as xn--..."
            )
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ForbiddenAddress("Must be a URL such as https://example.com/webhooks") from None
        host = parts.hostname
        if parts.scheme not in ("https", "http") or not host or "\\" in url:
            raise ForbiddenAddress("Must be a URL such as https://example.com/webhooks")
        if "@" in parts.netloc:
            raise ForbiddenAddress("Must not have a user or a password: the signature proves who sends")
        if "#" in url:
            raise ForbiddenAddress("Must not have a fragment after '#'")
        is_local = self._is_local(host)
        if parts.scheme == "http" and not is_local:
            raise ForbiddenAddress("Must begin with https://")
        if not is_local and port is not None and port != 443 and port < LOWEST_PORT:
            raise ForbiddenAddress(f"Must have the port 443, or one from {LOWEST_PORT:,} on")
        if not is_local:
            self._require_host(host)

    def _require_host(self, host: str) -> None:
        if _LOCAL_NAMES.fullmatch(host):
            raise ForbiddenAddress(f"'{host}' is a name of a private network")
        literal = _literal(host)
        if literal is None and not _HOST.fullmatch(host):
            raise ForbiddenAddress("Must have a host such as example.com, or a whole IP address")
        if literal is not None and not self.allows(literal):
            raise ForbiddenAddress(f"{host} is not an address of the public internet")

    def _is_local(self, host: str) -> bool:
        """Return True for a host in ``networks`` that needs no lookup: an address, or ``localhost``."""
        literal = ip_address("127.0.0.1") if host == "localhost" else _literal(host)
        return literal is not None and any(literal in network for network in self.networks)

    def allows(self, address: Address) -> bool:
        """Return True if webhooks may be sent to an address."""
        return is_public(address) or any(address in network for network in self.networks)

    async def of_host(self, host: str, port: int) -> list[str]:
        """Return the IP addresses of a host.

        All of them have to be allowed: an owner of a name who mixes public and private addresses has no good reason.
        Raises ForbiddenAddress if one is not, and OSError if there is none.
        """
        found = [host] if _literal(host) is not None else list(await self._resolve(host, port))
        if not found:
            raise OSError(f"{host} has no address")
        for text in found:
            # A zone such as %eth0 belongs to link-local addresses alone.
            address = ip_address(text.partition("%")[0])
            if not self.allows(address):
                # The text does not name the address: callers must not learn those of a private network.
                raise ForbiddenAddress(f"{host} has an address outside of the public internet")
        return found


@cache
def _threads() -> ThreadPoolExecutor:
    # The threads of asyncio have other work, and names that nobody answers would keep them from it.
    return ThreadPoolExecutor(RESOLVERS, "webhooks-dns")


async def resolve(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host, from the DNS of the operating system. Raises OSError if there is none."""
    found = await asyncio.get_running_loop().run_in_executor(_threads(), _getaddrinfo, host, port)
    return list(dict.fromkeys(found))


def _getaddrinfo(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _literal(host: str) -> Address | None:
    """Return the address that a host is, or None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None
