"""Sessions: the logins of connections, and the events that end them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from apex.app import Apex
from apex.callbacks import Emitter
from apex.context import Context, Params
from apex.errors import FeathersError, NotAuthenticated
from apex.realtime.channels import Connection
from apex.transaction import after_commit

if TYPE_CHECKING:
    from apex.auth.service import AuthenticationService

log: logging.Logger = logging.getLogger("apex")

CHUNK = 1_000
PROOF_SECONDS = 0.5
"""Seconds between two checks of a proof without a token, which another process may have revoked."""

RECHECK_SECONDS = 0.02
"""Seconds for which a ``recheck`` waits for more of them."""


class Session(NamedTuple):
    """The login of a connection, with a token or another proof. ``timer`` disconnects it when the token expires."""

    jti: str | None
    subject: str | None
    token: str | None
    issued: int | None
    timer: asyncio.TimerHandle | None

    @property
    def claims(self) -> Mapping[str, Any]:
        """The claims that decide if the token is revoked."""
        return {"jti": self.jti, "sub": self.subject, "iat": self.issued}


class Sessions:
    """The sessions of this process. A session ends with its token or its user, in whichever process that happens.

    The app emits ``login`` after a login and ``logout`` after a logout, with ``(result, params, context)``. It emits
    ``disconnect`` with a connection that has to be closed.
    """

    def __init__(self, service: AuthenticationService) -> None:
        self.service: AuthenticationService = service
        self.app: Apex = service.app
        self.open: dict[Connection, Session] = {}
        self._watching: asyncio.Task[None] | None = None
        self._rechecked = asyncio.Event()

    def follow(self, app: Apex) -> None:
        """Listen to the events that begin and end sessions.

        No connection receives the events of the authentication service, which contain tokens, and those of revoked
        tokens, which tell who has logged out.
        """
        authentication = app.service(self.service.path)
        authentication.publish(lambda data, context: None)
        if self.service.revocations is not None:
            app.service(self.service.revocations).publish(lambda data, context: None)
        _listen(authentication, "created", self._logged_in)
        _listen(authentication, "removed", self._logged_out)
        _listen(app, "disconnect", self._disconnected)
        _listen(app, "shutdown", self._stop)
        if self.service.entity is not None:
            _listen(self.service.users, "removed", self._user_removed)
            for event in ("updated", "patched"):
                _listen(self.service.users, event, self._user_changed)
            app.bus.on("user-changed", self._changed_elsewhere)
        app.bus.on("revoked", self._revoked_elsewhere)
        app.bus.on("tokens-ended", lambda message: self.end_tokens(**message))
        app.bus.on("signed-out", self._end_user)
        app.bus.on("key-ended", self._end_key)
        app.bus.on_sync(self._check)

    def end_token(self, jti: str, spare: Connection | None = None) -> None:
        """Disconnect the connections that logged in with a token, except ``spare``."""
        self._end(lambda connection, session: session.jti == jti and connection is not spare)

    def end_tokens(self, subject: str, moment: float) -> None:
        """Revoke the tokens that a subject got up to a moment, and disconnect their connections in this process."""
        self.service.ended[subject] = max(moment, self.service.ended.get(subject, moment))
        self._end(self._is_revoked)

    def sign_out(self, user_id: Any) -> None:
        """Disconnect a user in all processes. Inside of a transaction this happens with its commit."""
        self.app.bus.send("signed-out", user_id)
        after_commit(partial(self._end_user, user_id))

    def end_key(self, key_id: Any) -> None:
        """Disconnect the connections that logged in with an API key, in all processes.

        Inside of a transaction this happens with its commit.
        """
        self.app.bus.send("key-ended", key_id)
        after_commit(partial(self._end_key, key_id))

    def recheck(self) -> None:
        """Check soon if the proofs of connections without a token are still valid."""
        self._rechecked.set()

    def _logged_in(self, result: Mapping[str, Any], context: Context) -> Awaitable[None] | None:
        params, entity = context.params, self.service.entity
        if params.connection is not None:
            self._close(params.connection)
            self._open(params.connection, result, context.data)
            if entity is not None and entity in result:
                # Keep the whole entity, and the fields that hooks have added for callers.
                params.connection[entity] = {**result[entity], **(params.get(entity) or {})}
        return self.app._begin("login", result, params, context) if params.provider else None

    def _open(self, connection: Connection, result: Mapping[str, Any], proof: Mapping[str, Any]) -> None:
        claims, token = result["authentication"]["payload"], result.get("accessToken")
        timer = None
        if token is None:
            connection.authentication = {**proof, "key_id": result["authentication"].get("key_id")}
            self._watch()
        else:
            connection.authentication = {"strategy": "jwt", "accessToken": token}
            left = claims["exp"] - time.time()
            timer = asyncio.get_running_loop().call_later(left, self.app.emit, "disconnect", connection)
        self.open[connection] = Session(claims.get("jti"), claims.get("sub"), token, claims.get("iat"), timer)

    def _logged_out(self, result: Mapping[str, Any], context: Context) -> Awaitable[None] | None:
        params = context.params
        connection = params.connection
        session = None if connection is None else self.open.get(connection)
        if connection is not None and session is not None and session.token == result["accessToken"]:
            self._close(connection)
            self._forget(connection)
            self.app.events.channels.leave_all(connection)
        return self.app._begin("logout", result, params, context) if params.provider else None

    def _close(self, connection: Connection) -> None:
        session = self.open.pop(connection, None)
        if session is not None and session.timer is not None:
            session.timer.cancel()

    def _disconnected(self, connection: Connection) -> None:
        """Close the session, but let the other listeners see the user."""
        if connection in self.open:
            self._close(connection)
            asyncio.get_running_loop().call_soon(self._forget, connection)

    def _forget(self, connection: Connection) -> None:
        connection.pop("authentication", None)
        connection.pop(self.service.entity or "", None)

    def _user_removed(self, user: Any, context: Context) -> None:
        self._end_user(user[self.service.entity_id])

    def _user_changed(self, user: Any, context: Context) -> None:
        """Keep the entity of connections up to date, as permissions and publishers read it.

        Then read it again, as the user may no longer be one that may log in.
        """
        self._refresh(user)
        self._changed_elsewhere(user[self.service.entity_id])

    def _changed_elsewhere(self, user_id: Any) -> None:
        if any(str(user_id) == session.subject for session in self.open.values()):
            self.app.callbacks.start(self._read_again(user_id))

    async def _read_again(self, user_id: Any) -> None:
        try:
            self._refresh(await self.service.user_of(user_id))
        except NotAuthenticated:
            self._end_user(user_id)

    def _refresh(self, user: Mapping[str, Any]) -> None:
        subject, entity = str(user[self.service.entity_id]), self.service.entity or ""
        for connection, session in self.open.items():
            if session.subject == subject and connection.get(entity) is not None:
                connection[entity] = {**connection[entity], **self.service._without_password(user)}

    def _end_user(self, user_id: Any) -> None:
        self._end(lambda connection, session: session.subject == str(user_id))

    def _end_key(self, key_id: Any) -> None:
        self._end(lambda connection, session: connection.authentication.get("key_id") == key_id)

    def _revoked_elsewhere(self, message: Mapping[str, Any]) -> None:
        self.service.revoked[message["jti"]] = message["exp"]
        self.end_token(message["jti"])

    def _end(self, applies: Callable[[Connection, Session], bool]) -> None:
        for connection, session in list(self.open.items()):
            if applies(connection, session):
                self.app.emit("disconnect", connection)

    def _is_revoked(self, connection: Connection, session: Session) -> bool:
        return session.token is not None and self.service.is_revoked(session.claims)

    async def _check(self) -> None:
        """End the sessions that a lost message should have ended."""
        await self.service.load_revoked()
        self._end(self._is_revoked)
        if self.service.entity is not None:
            for ids in self._users():
                query = {**await self.service.entity_query(Params()), self.service.entity_id: {"$in": ids}}
                there = await self.service.users.find({"query": query, "paginate": False})
                gone = {str(id) for id in ids} - {str(user[self.service.entity_id]) for user in there}
                self._end(lambda connection, session, gone=gone: session.subject in gone)  # type: ignore[misc]

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._watching = asyncio.get_running_loop().create_task(self._check_proofs())

    def _stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _check_proofs(self) -> None:
        """End the sessions whose proof is no longer valid, as long as there are sessions without a token."""
        while proven := [pair for pair in self.open.items() if pair[1].token is None]:
            self._rechecked.clear()
            for connection, session in proven:
                await self._check_proof(connection, session)
            with suppress(TimeoutError):
                async with asyncio.timeout(PROOF_SECONDS):
                    await self._rechecked.wait()
                    await asyncio.sleep(RECHECK_SECONDS)

    async def _check_proof(self, connection: Connection, session: Session) -> None:
        """End a session whose proof is no longer valid, unless something else has ended it meanwhile."""
        proof = connection.authentication
        try:
            if proof is not None:
                await self.service.verify(proof, proof["strategy"])
        except NotAuthenticated:
            if self.open.get(connection) is session:
                self.app.emit("disconnect", connection)
        except FeathersError as error:
            log.warning("A session could not be checked: %s", error)

    def _users(self) -> Iterator[list[Any]]:
        """Yield the ids of the users with a session, in chunks."""
        users = (connection.get(self.service.entity or "") for connection in self.open)
        ids = list({user[self.service.entity_id] for user in users if user is not None})
        return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))


def _listen(emitter: Emitter, event: str, listener: Callable[..., object]) -> None:
    """Add a listener once, even if the app is set up again."""
    emitter.off(event, listener)
    emitter.on(event, listener)
