"""The undocumented parts of libraries that apex uses. If a new version changes one, one line names it.

To take a new version: read what has changed, adapt the module that is named, then this table and the upper bound in
``pyproject.toml``.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

HTTP = "uvicorn.protocols.http.httptools_impl"
ENGINE, SOCKET, SOCKETIO = "engineio.async_server", "engineio.async_socket", "socketio.async_server"

CALLED = {
    "uvicorn": {  # apex/server/protocol.py, apex/server/uvicorn.py
        f"{HTTP}:HttpToolsProtocol.connection_made": "self, transport",
        f"{HTTP}:HttpToolsProtocol.connection_lost": "self, exc",
        f"{HTTP}:HttpToolsProtocol.data_received": "self, data",
        f"{HTTP}:HttpToolsProtocol.on_message_begin": "self",
        f"{HTTP}:HttpToolsProtocol.on_headers_complete": "self",
        f"{HTTP}:HttpToolsProtocol.on_body": "self, body",
        f"{HTTP}:HttpToolsProtocol._should_upgrade": "self",
        f"{HTTP}:RequestResponseCycle.run_asgi": "self, app",
        f"{HTTP}:RequestResponseCycle.send": "self, message",
        "uvicorn.protocols.http.flow_control:FlowControl.drain": "self",
        "uvicorn.protocols.http.flow_control:FlowControl.resume_reading": "self",
        "uvicorn.server:Server.startup": "self, sockets",
        "uvicorn.server:Server.shutdown": "self, sockets",
        "uvicorn.server:Server.handle_exit": "self, sig, frame",
        "uvicorn.server:Server.on_tick": "self, counter",
    },
    "websockets": {
        "websockets.frames:Frame.serialize": "self, mask, extensions"
    },  # apex/transports/socketio/packets.py
    "python-engineio": {  # apex/transports/socketio/engine.py, apex/transports/socketio/connections.py
        f"{ENGINE}:AsyncServer._service_task": "self",
        f"{ENGINE}:AsyncServer._trigger_event": "self, event, args, kwargs",
        f"{ENGINE}:AsyncServer._upgrades": "self, sid, transport",
        f"{ENGINE}:AsyncServer.create_queue": "self, args, kwargs",
        f"{ENGINE}:AsyncServer._cors_allowed_origins": "self, environ",
        f"{ENGINE}:AsyncServer._cors_headers": "self, environ",
        f"{ENGINE}:AsyncServer._ok": "self, packets, headers, jsonp_index",
        f"{ENGINE}:AsyncServer.handle_request": "self, args, kwargs",
        f"{SOCKET}:AsyncSocket.close": "self, wait, abort, reason",
        f"{SOCKET}:AsyncSocket.poll": "self",
        f"{SOCKET}:AsyncSocket.handle_get_request": "self, environ",
        f"{SOCKET}:AsyncSocket.receive": "self, pkt",
        f"{SOCKET}:AsyncSocket.schedule_ping": "self",
        f"{SOCKET}:AsyncSocket.send": "self, pkt",
        "engineio.packet:Packet.encode": "self, b64",
    },
    "python-socketio": {  # apex/transports/socketio/engine.py
        f"{SOCKETIO}:AsyncServer._engineio_server_class": "self",
        f"{SOCKETIO}:AsyncServer._handle_eio_connect": "self, eio_sid, environ",
        f"{SOCKETIO}:AsyncServer._handle_eio_message": "self, eio_sid, data",
        f"{SOCKETIO}:AsyncServer._handle_eio_disconnect": "self, eio_sid, reason",
        f"{SOCKETIO}:AsyncServer._handle_connect": "self, eio_sid, namespace, data",
    },
    "psycopg": {  # apex/sql/drivers/pipeline.py, apex/sql/drivers/postgres.py
        "psycopg.errors:error_from_result": "result, encoding",
        "psycopg.adapt:Transformer.dump_sequence": "",
        "psycopg.adapt:Transformer.load_rows": "",
        "psycopg.adapt:Transformer.set_pgresult": "",
    },
    "marshmallow": {  # apex/schema/validation.py, apex/schema/fast_path.py
        "marshmallow.schema:Schema._init_fields": "self",
        "marshmallow.fields:Field.deserialize": "self, value, attr, data, kwargs",
        "marshmallow.fields:Field._deserialize": "self, value, attr, data, kwargs",
        "marshmallow.fields:Field.make_error": "self, key, kwargs",
    },
    "sqlalchemy": {  # apex/sql/statements.py
        "sqlalchemy.sql.compiler:SQLCompiler.visit_insert": "self, insert_stmt, visited_bindparam, visiting_cte, kw",
        "sqlalchemy.dialects.postgresql.psycopg:PGCompiler_psycopg": "",
        "sqlalchemy.dialects.sqlite.base:SQLiteCompiler": "",
    },
}
"""By library: a function with the names of its parameters; empty where only its being there counts."""

KEPT = {
    "uvicorn": {
        f"{HTTP}:HttpToolsProtocol": (
            "app cycle config connections flow headers loop parser pipeline scope server_state tasks transport url"
        ),
        f"{HTTP}:RequestResponseCycle": (
            "default_headers disconnected flow keep_alive message_event more_body on_response response_complete"
            " response_started scope transport waiting_for_100_continue"
        ),
        "uvicorn.protocols.http.flow_control:FlowControl": "read_paused write_paused",
        "uvicorn.server:Server": "config force_exit servers server_state should_exit",
        "uvicorn.server:ServerState": "connections default_headers tasks total_requests",
        "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol": "conn transport writable",
    },
    "python-engineio": {
        f"{SOCKET}:AsyncSocket": "closed closing connected last_ping queue server sid upgraded upgrading",
        f"{ENGINE}:AsyncServer": (
            "max_http_buffer_size ping_interval ping_interval_grace_period ping_timeout service_task_handle sockets"
            " start_service_task"
        ),
    },
    "python-socketio": {f"{SOCKETIO}:AsyncServer": "eio reason"},
    "marshmallow": {"marshmallow.schema:Schema": "_hooks load_fields dump_fields"},
    "sqlalchemy": {"sqlalchemy.sql.compiler:SQLCompiler": "_result_columns insert_prefetch update_prefetch postfetch"},
}
"""By library: a class with the names that its objects have."""

REPLACED = {
    "uvicorn": {
        f"{HTTP}:HttpToolsProtocol.on_url": "37be44e9",
        f"{HTTP}:HttpToolsProtocol.on_message_complete": "1fbad42d",
        f"{HTTP}:HttpToolsProtocol.on_response_complete": "64e254f2",
        f"{HTTP}:HttpToolsProtocol.send_400_response": "ae5a4a37",
        f"{HTTP}:HttpToolsProtocol._start_asgi_task": "9c08c257",
        "uvicorn.server:Server.main_loop": "afccb353",
    },
    "python-engineio": {
        f"{ENGINE}:AsyncServer._handle_connect": "5bd7edc1",
        f"{SOCKET}:AsyncSocket._send_ping": "67db82a7",
        f"{SOCKET}:AsyncSocket._websocket_handler": "27f120df",
        f"{SOCKET}:AsyncSocket.close": "faa2e939",
        f"{SOCKET}:AsyncSocket.handle_post_request": "82dca119",
        f"{SOCKET}:AsyncSocket.poll": "826f58a9",
    },
    "python-socketio": {
        f"{SOCKETIO}:AsyncServer._handle_connect": "c97c480c",
        f"{SOCKETIO}:AsyncServer._handle_eio_message": "bef50fc0",
    },
}
"""By library: a function that apex has another one for, or counts on as it is, with a digest of its source."""


def found(path: str) -> Any:
    """Raises AttributeError or ImportError for what is gone."""
    module, _, names = path.partition(":")
    one: Any = import_module(module)
    for name in names.split("."):
        one = getattr(one, name)
    return one


def differences(library: str) -> Iterator[str]:
    for path, parameters in CALLED.get(library, {}).items():
        try:
            now = ", ".join(inspect.signature(found(path)).parameters) if parameters else found(path) and ""
        except (AttributeError, ImportError):
            yield f"{path} is gone"
        else:
            if now != parameters:
                yield f"{path} takes ({now})"
    for path, names in KEPT.get(library, {}).items():
        sources = "".join(inspect.getsource(one) for one in found(path).__mro__ if one.__module__ != "builtins")
        for name in names.split():
            if not re.search(rf"(self\.|^    |def ){name}\b", sources, re.M):
                yield f"{path} has no {name}"
    for path, digest in REPLACED.get(library, {}).items():
        now = digest_of(found(path))
        if now != digest:
            yield f"{path} has changed ({now}): compare it with what apex does in its place"


def digest_of(function: Any) -> str:
    return sha256(inspect.getsource(function).encode()).hexdigest()[:8]


@pytest.mark.parametrize("library", CALLED)
def test_private_parts_are_as_they_were(library: str) -> None:
    changed = list(differences(library))
    assert not changed, f"{library} {version(library)}: {'; '.join(changed)}"


@pytest.mark.parametrize("library", CALLED)
def test_a_library_whose_private_parts_are_used_has_an_upper_bound(library: str) -> None:
    listed = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    bounds = [one.specifier for one in map(Requirement, listed) if one.name == library]
    assert bounds
    for specifier in bounds:
        assert any(one.operator == "<" for one in specifier), f"{library} needs an upper bound in pyproject.toml"
        assert version(library) in specifier
