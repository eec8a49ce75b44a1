"""Tests of ``apex serve --workers``: processes share a socket, die, are replaced and stop, while clients are served."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from tests.process.commands import apex, lines, server
from tests.process.test_serve import complaint
from tests.support.waiting import SECONDS

PIDS = ("--app", "tests.process.pids:create_app", "serve")
TWO = (*PIDS, "--workers", "2")
RENEWED = "All workers are replaced.\n"
PAUSE = 0.005
"""Seconds between two requests, in which the processors start workers."""


class Client:
    """A client with one connection. It connects again only if the server has announced the end of the connection."""

    def __init__(self, url: str) -> None:
        self.connection = HTTPConnection(url.removeprefix("http://"), timeout=SECONDS)
        self.told = False

    def pid(self) -> int:
        """Return the id of the process that answers. Raises OSError or HTTPException without an answer."""
        self.connection.request("GET", "/pids")
        return self.answer()

    def begin(self) -> None:
        """Send a part of a request."""
        self.connection.putrequest("POST", "/pids")
        self.connection.putheader("Content-Type", "application/json")
        self.connection.putheader("Content-Length", "2")
        self.connection.endheaders(b"{")

    def end(self) -> int:
        """Send the rest of a request."""
        self.connection.send(b"}")
        return self.answer()

    def answer(self) -> int:
        response = self.connection.getresponse()
        self.told = response.will_close
        number = json.loads(response.read())
        assert isinstance(number, int), number
        return number

    def close(self) -> None:
        self.connection.close()


def pid(url: str) -> int:
    """Return the id of the process that answers on a new connection."""
    with closing(Client(url)) as client:
        return client.pid()


def pids(url: str, count: int, but: frozenset[int] | set[int] = frozenset()) -> set[int]:
    """Wait until this many other processes have answered."""
    found: set[int] = set()
    deadline = time.monotonic() + SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found |= {pid(url)} - but
        time.sleep(PAUSE)
    return found


def client_of(url: str, worker: int) -> Client:
    """Return a client with a connection to a certain worker."""
    while (client := Client(url)).pid() != worker:
        client.close()
    return client


class Load:
    """Clients that send one request after the other, on one connection or on new ones."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: list[int] = []
        self.failures: list[tuple[bool, Exception]] = []
        self.stopped = threading.Event()

    def run(self, keep: bool) -> None:
        client = Client(self.url)
        while not self.stopped.is_set():
            try:
                self.answers.append(client.pid())
            except (OSError, HTTPException) as error:
                self.failures.append((keep, error))
                client.close()
            if not keep:
                client.close()
            self.stopped.wait(PAUSE)
        client.close()

    def goes_on(self) -> None:
        """Wait for some more answers."""
        enough, deadline = len(self.answers) + 100, time.monotonic() + SECONDS
        while len(self.answers) < enough:
            assert time.monotonic() < deadline
            self.stopped.wait(0.01)


@contextmanager
def load(url: str) -> Iterator[Load]:
    one = Load(url)
    with ThreadPoolExecutor(6) as threads:
        running: list[Future[None]] = [threads.submit(one.run, keep) for keep in (True, True, True, True, False, False)]
        try:
            one.goes_on()
            yield one
            one.goes_on()
        finally:
            one.stopped.set()
        for future in running:
            future.result()


def says(process: subprocess.Popen[str], line: str) -> None:
    """Wait until the process has printed a line."""
    assert process.stdout is not None
    assert line in lines(process.stdout)


def has_ended(process: subprocess.Popen[str]) -> str:
    """Wait until the process and its children have ended. Return their errors."""
    _, complaints = process.communicate(timeout=SECONDS)
    return complaints


def test_one_worker_is_the_process_itself() -> None:
    for arguments in ((), ("--workers", "1")):
        with server(*PIDS, *arguments) as (process, url):
            assert pid(url) == process.pid


def test_several_workers_answer_at_one_address() -> None:
    with server(*PIDS, "--workers", "3") as (process, url):
        assert process.pid not in pids(url, 3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_no_worker_is_left_after_a_stop(number: signal.Signals) -> None:
    with server(*TWO) as (process, url), closing(client_of(url, pid(url))) as client:
        client.begin()
        pids(url, 2)
        process.send_signal(number)
        assert client.end() > 0
        assert (has_ended(process), process.returncode) == ("", 0)
        with pytest.raises(ConnectionRefusedError):
            pid(url)


def test_workers_whose_parent_is_killed_end() -> None:
    with server(*TWO) as (process, url):
        pids(url, 2)
        process.kill()
        assert has_ended(process) == ""
        with pytest.raises(ConnectionRefusedError):
            pid(url)


def test_a_killed_worker_is_replaced_and_no_request_is_refused() -> None:
    with server(*TWO) as (process, url):
        before = pids(url, 2)
        killed = min(before)
        with load(url) as clients:
            os.kill(killed, signal.SIGKILL)
            pids(url, 1, but=before)
        assert not [error for _, error in clients.failures if isinstance(error, ConnectionRefusedError)]
        assert len(clients.failures) <= 6, "more than what the killed worker had at work"
        assert killed not in pids(url, 2)
        process.terminate()
        assert f"Worker {killed} has ended (SIGKILL): another one takes its place" in has_ended(process)


def test_a_restart_under_load_fails_no_request() -> None:
    with server(*TWO) as (process, url):
        before = pids(url, 2)
        with load(url) as clients:
            for _ in range(2):
                process.send_signal(signal.SIGHUP)
                says(process, RENEWED)
        assert clients.failures == []
        after = set(clients.answers) - before
        assert len(after) >= 2
        assert not pids(url, 2) & before
        process.terminate()
        assert (has_ended(process), process.returncode) == ("", 0)


def test_a_restart_waits_for_idle_connections_and_requests_under_way() -> None:
    with server(*TWO) as (process, url), ExitStack() as stack:
        before = pids(url, 2)
        idle, busy = (
            {worker: stack.enter_context(closing(client_of(url, worker))) for worker in before} for _ in range(2)
        )
        for client in busy.values():
            client.begin()
        process.send_signal(signal.SIGHUP)
        pids(url, 1, but=before)
        while idle:
            for worker, client in list(idle.items()):
                assert client.pid() == worker
                if client.told:
                    assert busy[worker].end() == worker
                    assert busy[worker].told
                    del idle[worker]
        says(process, RENEWED)


def test_only_a_server_that_is_told_to_stop_drains() -> None:
    with server(*TWO, DRAIN_SECONDS="300") as (process, url):
        before = pids(url, 2)
        process.send_signal(signal.SIGHUP)
        says(process, RENEWED)
        assert not pids(url, 2) & before
        process.kill()
        assert has_ended(process) == ""


def test_connections_that_stay_idle_do_not_hold_up_a_restart() -> None:
    with server(*TWO) as (process, url), ExitStack() as stack:
        for worker in pids(url, 2):
            stack.enter_context(closing(client_of(url, worker)))
        host, port = url.removeprefix("http://").split(":")
        for _ in range(20):  # Nothing comes from them, ever.
            stack.enter_context(socket.create_connection((host, int(port))))
        process.send_signal(signal.SIGHUP)
        says(process, RENEWED)


def test_a_worker_that_cannot_start_ends_a_restart_and_the_old_ones_keep_running(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with server(*TWO, BROKEN=str(broken)) as (process, url):
        before = pids(url, 2)
        broken.touch()
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        told = lines(process.stderr)
        assert next(told) == "apex: the application is broken\n"
        assert "The restart failed: a new worker does not start. The old workers keep running." in next(told)
        assert pids(url, 2) == before
        os.kill(min(before), signal.SIGKILL)
        assert "has ended (SIGKILL): another one takes its place" in next(told)
        assert [next(told) for _ in range(2)] == ["apex: the application is broken\n"] * 2
        broken.unlink()
        assert min(before) not in pids(url, 2)


# Problems that stop the start.


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({}, "the database is not up to date: run 'apex migrate'"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/a"}, "cannot be reached"),
        ({"HOST": "nowhere.invalid", "APEX_SECRET": "x" * 32}, "cannot listen on nowhere.invalid:0"),
        ({"PORT": "http"}, "PORT is 'http'"),
    ],
)
def test_the_reason_why_workers_do_not_start_is_logged_once(
    sqlite_url: str, variables: dict[str, str], part: str
) -> None:
    given = {"PORT": "0", "DATABASE_URL": sqlite_url, "REDIS_URL": "redis://127.0.0.1:1"} | variables
    assert part in complaint(apex("serve", "--workers", "2", **given))


def test_a_worker_that_is_killed_at_its_start_is_named() -> None:
    done = apex("--app", "tests.process.pids:create_killed", "serve", "--workers", "2")
    assert done.returncode == 1
    assert re.search(r"Worker \d+ has ended before it was ready \(SIGKILL\)", done.stderr)


@pytest.mark.parametrize("factory", ["create_live", "create_guarded"])
def test_several_workers_with_events_or_logouts_need_a_log_or_redis(sqlite_url: str, factory: str) -> None:
    message = complaint(
        apex("--app", f"tests.process.pids:{factory}", "serve", "--workers", "2", DATABASE_URL=sqlite_url)
    )
    text = "apex: several workers share events and logouts through the log or Redis: call app.configure(log(table)),"
    assert message == f"{text} or set 'redis' (REDIS_URL)"


@pytest.mark.parametrize("count", ["0", "-1", "257", "x"])
def test_numbers_of_workers_that_make_no_sense_are_refused_as_usage(count: str) -> None:
    done = apex(*PIDS, "--workers", count)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Invalid value for '--workers'" in done.stderr
