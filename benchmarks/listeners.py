"""Many Socket.IO connections in one process, over WebSocket, that count events without reading them."""

from __future__ import annotations

import json
import os
import select
import socket
import time

MESSAGE = {
    "text": "Everyone in this room gets this sentence as soon as it is stored. " * 2,
    "userId": 789,
    "room": "all",
}
CHUNK = 16_384
SILENCE = 10
"""The time in seconds without a byte after which a server counts as stopped."""

TEXT, WEBSOCKET_PING, WEBSOCKET_PONG = 0x81, 0x89, 0x8A
CREATE = b'421["create","messages",' + json.dumps(MESSAGE).encode() + b",{}]"
HANDSHAKE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bGlzdGVuZXIgb2YgYXBleA==\r\n\r\n"
)


class Listeners:
    """The connections. ``events`` counts all events, ``answers`` all acknowledgements."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []
        self.poll = select.epoll()
        self.begun: dict[int, bytes] = {}
        self.events = self.answers = 0

    def add(self, one: socket.socket) -> None:
        self.sockets.append(one)
        self.poll.register(one, select.EPOLLIN)

    def connect(self, port: int, count: int) -> None:
        for _ in range(count):
            self.add(connected(port))

    def close(self) -> None:
        for one in self.sockets:
            one.close()
        self.poll.close()

    def create(self) -> None:
        """Send a create on the first connection."""
        send(self.sockets[0].fileno(), CREATE)

    def wait(self, events: int, answers: int = 0) -> float:
        """Read until so many events and answers have arrived. Return the time of the last event."""
        complete = 0.0
        while self.events < events or self.answers < answers:
            self.read()
            if not complete and self.events >= events:
                complete = time.perf_counter()
        return complete

    def read(self, seconds: float = SILENCE) -> None:
        """Wait for data and read it. Raises SystemExit if none arrives."""
        ready = self.poll.poll(seconds)
        if not ready and seconds >= SILENCE:
            raise SystemExit(f"The server was silent for {SILENCE} seconds after {self.events:,} events")
        for number, _ in ready:
            self._received(number, os.read(number, CHUNK))

    def _received(self, number: int, data: bytes) -> None:
        if not data:
            raise SystemExit("The server has closed a connection")
        if self.begun:
            data = self.begun.pop(number, b"") + data
        at, end = 0, len(data)
        while end - at > 1:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            if start + size > end:
                break
            if data[start : start + 2] == b"42":
                self.events += 1
            else:
                self._other(number, data[at], data[start : start + size])
            at = start + size
        if at < end:
            self.begun[number] = data[at:]

    def _other(self, number: int, kind: int, text: bytes) -> None:
        if kind == WEBSOCKET_PING:
            send(number, text, WEBSOCKET_PONG)
        elif text == b"2":
            send(number, b"3")
        elif text.startswith(b"43"):
            self.answers += 1
        else:
            raise SystemExit(f"The server sent {text[:100]!r}")


def send(number: int, text: bytes, kind: int = TEXT) -> None:
    """Write a frame whose mask is zero, which leaves its bytes unchanged."""
    size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2)
    os.write(number, bytes([kind]) + size + bytes(4) + text)


def frame(text: bytes) -> bytes:
    """Return the bytes of a frame as a server sends it."""
    return bytes([TEXT, *([len(text)] if len(text) < 126 else [126, *len(text).to_bytes(2)])]) + text


def receive(one: socket.socket) -> bytes:
    """Return the text of one frame."""
    size = _exactly(one, 2)[1]
    return _exactly(one, int.from_bytes(_exactly(one, 2)) if size == 126 else size)


def sample(port: int) -> list[bytes]:
    """Return the frames of one create on one connection: the event and the answer."""
    with connected(port) as one:
        send(one.fileno(), CREATE)
        return sorted(receive(one) for _ in range(2))


def opened(port: int) -> socket.socket:
    """Return an open WebSocket that has not sent CONNECT yet."""
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(HANDSHAKE.encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += _exactly(one, 1)
    opened = receive(one)
    if b" 101 " not in head or not opened.startswith(b"0{"):
        raise SystemExit(f"The server answered {head!r}, {opened!r}")
    return one


def connected(port: int) -> socket.socket:
    one = opened(port)
    send(one.fileno(), b"40")
    joined = receive(one)
    if not joined.startswith(b"40{"):
        raise SystemExit(f"The server answered {joined!r}")
    return one


def _exactly(one: socket.socket, size: int) -> bytes:
    return one.recv(size, socket.MSG_WAITALL)


def capacity(frame: bytes, count: int, times: int = 30) -> float:
    """Return the frames per second that the listeners can count. Each connection begins with one frame."""
    listeners = Listeners()
    with socket.create_server(("127.0.0.1", 0), backlog=count) as server:
        senders = [socket.create_connection(server.getsockname()) for _ in range(count)]
        for _ in senders:
            listeners.add(server.accept()[0])
    taken = 0.0
    for number in range(1, times + 1):
        for sender in senders:
            sender.send(frame)
        start = time.perf_counter()
        taken += listeners.wait(number * count) - start
    listeners.close()
    for sender in senders:
        sender.close()
    return times * count / taken
