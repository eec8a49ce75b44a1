"""A real HTTP server that takes messages, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.support.serving import stop_accepting

HANG, CLOSE, SHORT, ENDLESS, DRIP, GARBAGE, BREAK = "hang", "close", "short", "endless", "drip", "garbage", "break"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@dataclass(eq=False)
class Received:
    """A message as it has arrived."""

    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The decoded body."""
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def data(self) -> Any:
        """The record of the message."""
        return self.message["data"]


@dataclass
class Receiver:
    """The receiver. ``behave`` returns what it does for a message: a status, bytes to answer, or a way to misbehave."""

    behave: Callable[[Received], Any] = lambda received: 200
    received: list[Received] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    names: list[str | None] = field(default_factory=list)
    """The names that TLS clients have asked for."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The URL for webhooks."""
        return f"http://localhost:{self.port}/hooks"

    async def until(self, count: int) -> list[Received]:
        """Wait until so many messages have arrived, and return all."""
        async with asyncio.timeout(60):
            while len(self.received) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the messages of a connection."""
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head)}
                one = Received(headers, await reader.readexactly(int(headers["content-length"])))
                does = self.behave(one)
                does = await does if asyncio.iscoroutine(does) else does
                self.received.append(one)
                self.changed.set()
                if await self._answer(does, writer):
                    break
        writer.close()

    async def _answer(self, does: Any, writer: asyncio.StreamWriter) -> bool:
        """Answer a message. Return True if the connection ends."""
        match does:
            case int():
                writer.write(f"HTTP/1.1 {does} It\r\ncontent-length: 2\r\n\r\nno".encode() if does != 200 else OK)
            case bytes():
                writer.write(does)
            case "hang":
                await asyncio.sleep(3600)
            case "short":
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this")
                return True
            case "garbage":
                writer.write(b"220 mail.example ESMTP\r\n")
                return True
            case "break":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n")
                return True
            case "endless":
                writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                    await writer.drain()
            case "drip":
                for byte in b"HTTP/1.1 200 OK\r\n" + b"x-more: yes\r\n" * 1000:
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0.01)
            case _:
                return True
        await writer.drain()
        return False


@asynccontextmanager
async def receiving(
    behave: Callable[[Received], Any] = lambda received: 200, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Yield a receiver that runs on a free port of 127.0.0.1."""
    receiver = Receiver(behave)
    if tls is not None:
        tls.sni_callback = lambda ssl_object, name, context: receiver.names.append(name)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        try:
            await receiver.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        with suppress(OSError, asyncio.CancelledError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        await stop_accepting(server.sockets)
        server.close()
        while tasks:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server with a certificate for a name, and of clients that trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    moment = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(moment - timedelta(days=1)).not_valid_after(moment + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    made = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    file = folder / f"{name}.pem"
    file.write_bytes(made + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=made.decode())
