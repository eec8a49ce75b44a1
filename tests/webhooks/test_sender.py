"""The HTTP client of webhooks: it reaches public addresses alone, and no answer holds it up or leads it elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex.webhooks.addresses import Addresses, ForbiddenAddress, is_public
from apex.webhooks.sender import AT_ONCE_TO_HOST, Sender
from tests.webhooks.receiver import (
    BREAK,
    CLOSE,
    DRIP,
    ENDLESS,
    GARBAGE,
    HANG,
    SHORT,
    Received,
    certificate,
    receiving,
)

LOCAL = ["127.0.0.0/8"]
PRIVATE = [
    "127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::10.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "fe80::1", "fec0::1",
    "fc00::1", "fd00:ec2::254", "ff02::1", "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b:1::a00:1",
    "2001:0:0:1::1", "2001:db8::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]


@asynccontextmanager
async def sending(*networks: str, **options: Any) -> AsyncIterator[Sender]:
    sender = Sender(Addresses(networks, options.pop("resolving", None)), **options)
    try:
        yield sender
    finally:
        await sender.close()


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_of_private_networks_are_not_public(address: str) -> None:
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_as_public_in_its_ipv6_forms(number: int) -> None:
    plain, mapped = IPv4Address(number), IPv6Address(0xFFFF << 32 | number)
    assert is_public(mapped) == is_public(plain)
    assert is_public(IPv6Address(0x2002 << 112 | number << 80)) <= is_public(plain)
    assert not is_public(IPv6Address(number))


URLS = {
    "https://example.com/hooks": None,
    "https://example.com:8443/hooks?key=1": None,
    "https://1.1.1.1/hooks": None,
    "http://example.com/": "https://",
    "ftp://example.com/": "URL",
    "https://": "URL",
    "//example.com/": "URL",
    "https://ann:secret@example.com/": "user",
    "https://example.com@10.0.0.1/": "user",
    "https://example.com/#part": "fragment",
    "https://example.com:22/": "port",
    "https://example.com:99999/": "URL",
    "https://example.com:x/": "URL",
    "https://example.com\\@10.0.0.1/": "U",
    "https://exämple.com/": "xn--",
    "https://exa mple.com/": "ASCII",
    "https://example.com/\r\nx-injected: 1": "ASCII",
    "https://localhost/": "private",
    "https://LOCALHOST./": "private",
    "https://db.internal/": "private",
    # Forms of 127.0.0.1 that the C library reads, and names that no DNS can have.
    **dict.fromkeys((f"https://{host}/" for host in ("0x7f000001", "2130706433", "127.1", "0177.0.0.1")), "whole IP"),
    **dict.fromkeys((f"https://{host}/" for host in ("a..example", ".example", "a" * 64 + ".example", "-")), "host"),
    "https://127.0.0.1/": "public",
    "https://[::1]/": "public",
    "https://[::ffff:169.254.169.254]/": "public",
    "https://[fe80::1%25eth0]/": "public",
    "https://" + "a" * 3000: "2,048",
}


@pytest.mark.parametrize("url", URLS)
def test_urls(url: str) -> None:
    rule = URLS[url]
    if rule is None:
        Addresses().require_url(url)
    else:
        with pytest.raises(ForbiddenAddress, match=rule):
            Addresses().require_url(url)


def test_http_is_for_networks_that_are_allowed() -> None:
    Addresses(LOCAL).require_url("http://localhost:3030/hooks")
    Addresses(["10.1.0.0/16"]).require_url("http://10.1.2.3/hooks")
    for url in ("http://example.com/", "http://10.2.0.1/", "http://localhost/"):
        with pytest.raises(ForbiddenAddress):
            Addresses(["10.1.0.0/16"]).require_url(url)


@pytest.mark.parametrize("host", ["hooks.example", "hooks"])
async def test_a_host_that_resolves_to_a_private_address_is_not_connected_to(host: str) -> None:
    async def resolving(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with receiving() as receiver, sending(resolving=resolving) as sender:
        answer = await sender.post(f"https://{host}:{receiver.port}/", {}, b"{}")
        assert (answer.status, receiver.connections) == (None, 0)
        assert "outside of the public internet" in (answer.error or "")


async def test_a_resolver_that_fails_is_a_message_that_fails() -> None:
    async def resolving(host: str, port: int) -> Sequence[str]:
        raise KeyError(host)

    async with sending(resolving=resolving) as sender:
        answer = await sender.post("https://hooks.example/", {}, b"{}")
        assert answer.error == "This server could not send the message: its log says why"


async def test_one_private_address_among_public_ones_is_enough_to_refuse_a_host() -> None:
    async def resolving(host: str, port: int) -> Sequence[str]:
        return ["93.184.216.34", "10.0.0.1"]

    async with sending(resolving=resolving) as sender:
        answer = await sender.post("https://hooks.example/", {}, b"{}")
        assert "outside of the public internet" in (answer.error or "")


async def test_dns_that_changes_its_answer_is_asked_once(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "hooks.example")
    asked: list[str] = []

    async def resolving(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    # The first answer is allowed here, as a public address is. The second one would not be.
    async with receiving(tls=server) as receiver, sending(*LOCAL, resolving=resolving, verify=client) as sender:
        url = f"https://hooks.example:{receiver.port}/"
        answers = [await sender.post(url, {}, b"{}") for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert (asked, receiver.connections, receiver.names) == (["hooks.example"], 1, ["hooks.example"])
        await sender.close()
        refused = await sender.post(url, {}, b"{}")
        assert (refused.status, receiver.connections) == (None, 1)


async def test_certificates_are_checked_for_the_name_of_the_host(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "other.example")

    async def resolving(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with receiving(tls=server) as receiver:
        for verify in (client, None):  # Another name, and a certificate that nobody has signed.
            async with sending(*LOCAL, resolving=resolving, verify=verify) as sender:
                answer = await sender.post(f"https://hooks.example:{receiver.port}/", {}, b"{}")
                assert (answer.error or "").startswith("The certificate is not valid")
        assert receiver.received == []


@pytest.mark.parametrize("behaviour", [HANG, DRIP])
async def test_a_receiver_that_takes_too_long_counts_as_failed(behaviour: str) -> None:
    async with receiving(lambda received: behaviour) as receiver, sending(*LOCAL, seconds=0.2) as sender:
        answer = await sender.post(receiver.url, {}, b"{}")
        assert answer.error == "No answer within 0.2 seconds"


@pytest.mark.parametrize("behaviour", [CLOSE, SHORT, GARBAGE, BREAK])
async def test_a_receiver_that_breaks_off_counts_as_failed(behaviour: str) -> None:
    async with receiving(lambda received: behaviour) as receiver, sending(*LOCAL) as sender:
        answer = await sender.post(receiver.url, {}, b"{}")
        assert (answer.status, answer.is_success) == (None, False)


async def test_an_endless_answer_is_read_to_its_beginning() -> None:
    async with receiving(lambda received: ENDLESS) as receiver, sending(*LOCAL) as sender:
        answer = await sender.post(receiver.url, {}, b"{}")
        assert (answer.status, answer.text) == (200, "x" * 500)


async def test_a_redirect_is_not_followed() -> None:
    async with receiving() as other, sending(*LOCAL) as sender:
        location = f"HTTP/1.1 307 Go\r\nlocation: {other.url}\r\ncontent-length: 0\r\n\r\n".encode()
        async with receiving(lambda received: location) as receiver:
            answer = await sender.post(receiver.url, {}, b"{}")
        assert (answer.status, answer.error, other.connections) == (307, "A redirect is not followed", 0)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7),
        ("999999999", 3600),
        ("-1", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
    ],
)
async def test_retry_after_is_respected_within_bounds(given: str, seconds: float | None) -> None:
    busy = f"HTTP/1.1 503 Busy\r\nretry-after: {given}\r\ncontent-length: 0\r\n\r\n".encode()
    async with receiving(lambda received: busy) as receiver, sending(*LOCAL) as sender:
        assert (await sender.post(receiver.url, {}, b"{}")).pause == seconds


async def test_few_requests_go_to_one_host_at_the_same_time() -> None:
    running, most, go = 0, 0, asyncio.Event()

    async def behave(received: Received) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == AT_ONCE_TO_HOST:
            go.set()
        await go.wait()
        running -= 1
        return 200

    async with receiving(behave) as receiver, sending(*LOCAL) as sender:
        answers = await asyncio.gather(*(sender.post(receiver.url, {}, b"{}") for _ in range(30)))
        assert (most, {answer.status for answer in answers}) == (AT_ONCE_TO_HOST, {200})
        assert sender._hosts == {}


async def test_hosts_that_hang_do_not_keep_others_waiting() -> None:
    async with receiving(lambda received: HANG) as slow, receiving() as fast, sending(*LOCAL) as sender:
        held = [asyncio.create_task(sender.post(slow.url, {}, b"{}")) for _ in range(100)]
        await slow.until(AT_ONCE_TO_HOST)
        assert (await sender.post(fast.url.replace("localhost", "127.0.0.1"), {}, b"{}")).status == 200
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
