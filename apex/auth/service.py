"""The authentication service, with logins, logouts and the revocation of tokens, and the hook ``authenticate``."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.auth.jwt import Claims, Tokens
from apex.auth.passwords import Passwords
from apex.auth.sessions import Sessions
from apex.context import Context, Params
from apex.describe import describe, facts_of, flat
from apex.errors import BadRequest, Conflict, FeathersError, MethodNotAllowed, NotAuthenticated, NotFound
from apex.hooks import Hook, belongs
from apex.limits.clients import network_of
from apex.limits.rates import FailureLimit, Rates, rates_of
from apex.query.language import Compare, suggestion
from apex.realtime.channels import Connection
from apex.service import BoundService, Service
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import after_commit, savepoint, transaction
from apex.types import items

if TYPE_CHECKING:
    from sqlalchemy import Table

log: logging.Logger = logging.getLogger("apex")

Result = dict[str, Any]
"""The result of an authentication: ``{"authentication": {...}, <entity>: {...}}``."""

_BEFORE = re.compile(r"before:([0-9.]+):(.*)", re.DOTALL)
FAILURES = {"account": 5, "address": 20}
"""The failed logins in a minute, for an account and from an address, after which the next login has to wait."""
MAX_USERS = 10
"""The most users that are read for a name, as several names may differ only in case."""
_KEPT = 30 * 86_400
"""Seconds for which the end of a user's tokens is stored, or longer if tokens live longer."""
VERIFIED = "verified_proof"
"""The param with the proof that ``authenticate`` has verified."""
_OF_ONE_CALL = ("adapter", "paginate", "scope")
"""Params that belong to one call and are not passed to another one."""

PROOF: dict[str, Any] = {
    "title": "Login",
    "type": "object",
    "properties": {
        "strategy": {"type": "string", "examples": ["local"]},
        "email": {"type": "string"},
        "password": {"type": "string", "format": "password"},
        "accessToken": {"type": "string"},
    },
    "required": ["strategy"],
}
LOGIN: dict[str, Any] = {
    "title": "LoginResult",
    "type": "object",
    "properties": {"accessToken": {"type": "string"}, "authentication": {"type": "object"}, "user": {"type": "object"}},
    "required": ["authentication"],
}
"""The JSON schemas of the data and the result of a login, for OpenAPI."""


class Strategy(Protocol):
    """A way to prove who a caller is.

    A strategy may have a ``scheme``: the security scheme of OpenAPI for a proof in the headers of a request, such as
    ``{"type": "apiKey", "in": "header", "name": "x-pin"}``. It is None if the proof is only in a body.

    ``AuthenticationService.register`` sets two attributes, if the strategy has them: ``entity``, the name under which
    results have the entity, and ``recheck``, a function to call when proofs have ended. It closes the connections that
    have logged in with them at once. Without it that takes half a second::

        class PinStrategy:
            scheme = {"type": "apiKey", "in": "header", "name": "x-pin"}

            def parse(self, headers):
                return {"strategy": "pin", "pin": headers["x-pin"]} if "x-pin" in headers else None
    """

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        """Return the result without the entity. Raises NotAuthenticated or BadRequest."""
        ...

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        """Return the result with the entity. Raises NotAuthenticated or BadRequest."""
        ...

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """Return the authentication in the headers of a request, or None."""
        ...


class Attempt(NamedTuple):
    """An attempt to log in: its ``parties`` in the fair queue, and ``admit``, to call when it is their turn."""

    parties: tuple[str, ...]
    admit: Callable[[], Awaitable[None]]


class AuthenticationService(Service):
    """The service that logs callers in (``create``) and out (``remove``)::

        authentication = AuthenticationService(app)
        authentication.register("jwt", JWTStrategy(authentication))
        app.use("authentication", authentication)

    It reads its settings from ``app.get("authentication")``. ``revocations`` is the table in
    which revoked tokens survive a restart (see ``revoked_tokens_table``), or the path of a service for them (``jti``,
    ``expires_at``), which is registered before this one. Without it they are kept in memory.

    Raises ValueError for settings that cannot be used.
    """

    methods: Sequence[str] | None = ("create", "remove")
    summaries: Mapping[str, str] = {"create": "Log in", "remove": "Log out"}
    logged: bool = False  # The results have tokens.
    multi: bool | Sequence[str] = True  # ``create`` refuses a list itself, with an error that names a strategy.

    def __init__(self, app: Apex, *, revocations: Table | str | None = None) -> None:
        self.app = app
        self.settings: Mapping[str, Any] = app.get("authentication") or {}
        if not self.settings.get("secret"):
            raise ValueError("A 'secret' must be provided in your authentication configuration")
        self.entity: str | None = self.settings.get("entity", "user")
        options = self.settings.get("jwtOptions", {})
        if self.entity is not None and options.get("subject") is not None:
            raise ValueError("authentication.jwtOptions.subject is for tokens without an entity: set 'entity' to null")
        local = self.settings.get("local", {})
        self.username_field: str = local.get("usernameField", "email")
        self.password_field: str = local.get("passwordField", "password")
        self.ignores_case: bool | str = local.get("caseInsensitive", False)
        previous = self.settings.get("previousSecret")
        has_entity = self.entity is not None
        self.tokens: Tokens = Tokens(self.settings["secret"], options, previous, requires_subject=has_entity)
        self.passwords: Passwords = Passwords(self.settings.get("argon2"))
        self.strategies: dict[str, Strategy] = {}
        self.revoked: dict[str, int] = {}
        self.ended: dict[str, float] = {}
        """The moment up to which the tokens of each subject are revoked, in seconds since 1970."""
        self.sessions: Sessions = Sessions(self)
        self._rates = Rates()
        self.failure_limit: FailureLimit = FailureLimit(
            "logins", self._counted, {**FAILURES, **self.settings.get("failedLogins", {})}
        )
        self.path: str = "authentication"
        if revocations is not None and not isinstance(revocations, str):
            from apex.auth.revocations import serve_revocations

            revocations = serve_revocations(app, revocations)
        self.revocations: str | None = revocations
        # A token may be older than the current lifetime, if the setting was longer before.
        self._kept: int = max(self.tokens.lifetime, _KEPT)
        self._hooked_users: BoundService | None = None
        self._bound: BoundService | None = None
        app.set("defaultAuthentication", self)
        app.parsers.append(self.parse)

    def _counted(self) -> Rates:
        """Return the counters of attempts: those of the app, or of this service alone."""
        return self.app.get("rates") or self._rates

    @property
    def users(self) -> BoundService:
        """The service of the entity. Raises LookupError if it is not registered."""
        return self.app.service(self.settings.get("service", "users"))

    def register(self, name: str, strategy: Strategy) -> None:
        """Add a strategy, and set its ``entity`` and its ``recheck``, if it has them."""
        named: Any = strategy
        if hasattr(named, "entity"):
            named.entity = self.entity
        if hasattr(named, "recheck"):
            named.recheck = self.sessions.recheck
        self.strategies[name] = strategy

    async def setup(self, app: Apex, path: str) -> None:
        """Load the revoked tokens.

        Raises LookupError if the service of the entity is missing. Raises ValueError if it has no ``get``, and for a
        hook with a misspelled strategy.
        """
        self.path = path
        self._require_known_strategies()
        if self.entity is not None and "get" not in self.users._hookable:
            raise ValueError(f"Service '{self.users._path}' has no 'get': a login reads the {self.entity} with it")
        if self.ignores_case is True and not isinstance(self.users.service, Adapter):
            raise ValueError(
                f"local.caseInsensitive has to be 'lower' for '{self.users._path}', which is not an adapter of apex"
            )
        if app.get("rates") is None and self._bound is None:
            self._rates = rates_of(app)
        self.sessions.follow(app)  # Before the tokens are read, so that none is missed in between.
        await self.load_revoked()
        if app.service(path) is not self._bound:
            self._bound = app.service(path)
            self._bound.hooks({"after": {"all": [_forbid_caching]}})
        if self.entity is not None and self.users is not self._hooked_users:
            self._hooked_users = self.users
            written = [method for method in ("update", "patch", "remove") if method in self.users._hookable]
            self.users.hooks({"after": {method: [self._follow_change] for method in written}})

    def _require_known_strategies(self) -> None:
        """Raise ValueError for a hook with a misspelled strategy."""
        for store in (self.app.store, *(bound._store for bound in self.app.services.values())):
            registered = {id(step.hook): step.hook for step in store}  # Most hooks belong to several methods.
            for hook in (inner for one in registered.values() for inner in flat(one)):
                for name in getattr(facts_of(hook), "strategies", ()):
                    if name not in self.strategies and (hint := suggestion(name, self.strategies)):
                        raise ValueError(f"A hook of {store.owner} names the strategy '{name}'.{hint}")

    async def load_revoked(self) -> None:
        """Load the revoked tokens from the service of ``revocations``."""
        if self.revocations is not None:
            with tenant_context(ALL_TENANTS):
                rows = await self.app.service(self.revocations).find({"paginate": False})
            for row in rows:
                if match := _BEFORE.fullmatch(row["jti"]):
                    self.ended[match[2]] = max(float(match[1]), self.ended.get(match[2], 0))
                else:
                    self.revoked[row["jti"]] = int(row["expires_at"].timestamp())

    def is_revoked(self, claims: Mapping[str, Any]) -> bool:
        """Return True for the claims of a token that was logged out, or revoked with all tokens of its user."""
        return claims["jti"] in self.revoked or claims["iat"] <= self.ended.get(claims.get("sub", ""), 0)

    @asynccontextmanager
    async def attempt(self, account: str, params: Params) -> AsyncIterator[Attempt]:
        """Limit attempts to guess a secret of an account, for the account and for the caller's address.

        NotAuthenticated inside is counted and logged. Raises TooManyRequests if either has failed too often lately::

            async with service.attempt("ann@example.com", params):
                if not is_right_pin(pin):
                    raise NotAuthenticated("Invalid login")
        """
        counters = self._counters(account, params)
        admit = partial(self.failure_limit.admit, counters)
        await admit()
        try:
            yield Attempt(tuple(counters.values()), admit)
        except NotAuthenticated:
            await self.failure_limit.fail(counters)
            address = counters.get("address", "unknown")
            log.warning("A login failed: account %s, address %s", counters["account"], address)
            raise

    def _counters(self, account: str, params: Params) -> dict[str, str]:
        """Return the names under which attempts are counted: a digest of the account, and the address if known."""
        digest = hmac.digest(self.settings["secret"].encode(), account.strip().casefold().encode(), "sha256")
        counters = {"account": digest.hex()[:16]}
        if params.ip:
            counters["address"] = network_of(params.ip)
        return counters

    @property
    def schemes(self) -> dict[str, dict[str, Any]]:
        """The security schemes of OpenAPI, by strategy, for proofs in the headers of a request."""
        schemes = {name: getattr(one, "scheme", _default_scheme(name)) for name, one in self.strategies.items()}
        return {name: dict(scheme) for name, scheme in schemes.items() if scheme is not None}

    @property
    def challenge(self) -> str:
        """The ``WWW-Authenticate`` of a 401 (RFC 9110, 11.6.1), with one challenge for each security scheme."""
        return ", ".join(dict.fromkeys(_challenge(scheme) for scheme in self.schemes.values())) or "Bearer"

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """Return the authentication in the headers of a request, from the first strategy that finds one, or None."""
        for strategy in self.strategies.values():
            if (authentication := strategy.parse(headers)) is not None:
                return authentication
        return None

    async def authenticate(self, authentication: Any, params: Params, *allowed: str) -> Result:
        """Return the result of the strategy that a proof names. Raises NotAuthenticated if it is not allowed."""
        return await self.strategy_of(authentication, allowed).authenticate(authentication, params)

    async def verify(self, authentication: Any, *allowed: str) -> Result:
        """Return the result of the strategy that a proof names, without the entity. Raises NotAuthenticated."""
        return await self.strategy_of(authentication, allowed).verify(authentication)

    async def entity_query(self, params: Params) -> Mapping[str, Any]:
        """Return a query that an entity must match to be logged in.

        The default matches all entities. Override it to allow only some of them::

            async def entity_query(self, params):
                return {"active": True}
        """
        return {}

    async def payload_of(self, result: Result, params: Params) -> Mapping[str, Any]:
        """Return further claims for a token: those of ``params.payload``, unless you override it."""
        return params.payload or {}

    async def subject_of(self, result: Result, params: Params) -> Any:
        """Return the subject of a token: the entity's id. Without an entity it is None, unless you override it.

        Raises NotAuthenticated for an entity without an id.
        """
        return None if self.entity is None else self._id_of(result.get(self.entity) or {})

    async def user_of(self, subject: Any, params: Params | None = None) -> Result:
        """Return the entity of an id without its password. Raises NotAuthenticated if it may not log in, or is gone."""
        query = await self.entity_query(Params() if params is None else params)
        try:
            with tenant_context(ALL_TENANTS):
                user = await self.users.get(subject, {"query": query} if query else None)
        except NotFound:
            raise _no_user() from None
        return self._without_password(user)

    async def user_named(
        self, name: str, query: Mapping[str, Any] | None = None, adapter: Mapping[str, Any] | None = None
    ) -> Result | None:
        """Return the entity of a name, or None. If several names differ only in case, the exact one counts.

        ``query`` limits the entities, and ``adapter`` has params for the adapter of their service.
        """
        asked: dict[str, Any] = {**(query or {}), "$limit": MAX_USERS}
        adapter = dict(adapter or {})
        if self.ignores_case is not True:
            asked[self.username_field] = name.strip().lower() if self.ignores_case == "lower" else name
        else:  # Always one query: its time must not show which names exist.
            pattern = re.sub(r"([%_\\])", r"\\\1", name.strip())
            adapter["where"] = Compare(self.username_field, "$ilike", pattern)
        try:
            with tenant_context(ALL_TENANTS):
                found = await self.users.find({"query": asked, "paginate": False, "adapter": adapter})
        except BadRequest:  # The field cannot hold this name. The answer is that for any unknown name.
            return None
        spelled = [user for user in found if user.get(self.username_field) == name.strip()]
        chosen = spelled if len(found) > 1 and self.ignores_case is True else found
        return dict(chosen[0]) if chosen else None

    @cached_property
    def entity_id(self) -> str:
        """The id field of an entity: ``entityId`` of the settings, or the ``id`` of its service."""
        return str(self.settings.get("entityId") or getattr(self.users.service, "id", "id"))

    @describe(data={"create": PROOF}, result=LOGIN, errors=(401, 404, 429))
    async def create(self, data: Any, params: Params) -> Result:
        """Log in with ``{"strategy": ..., ...}``. Return the access token, the claims and the entity.

        Raises NotAuthenticated, BadRequest or TooManyRequests.
        """
        if isinstance(data, list):
            raise BadRequest("The data must be an object with a strategy")
        began = time.time()
        result = await self.authenticate(data, params, *self.settings.get("authStrategies", ()))
        # A proof with a payload, such as an API key, can be sent again. It needs no token.
        if "payload" not in result["authentication"]:
            payload = await self.payload_of(result, params)
            token, payload = await self._new_token(await self.subject_of(result, params), payload, began)
            authentication = {**result.pop("authentication"), "payload": payload}
            result = {"accessToken": token, "authentication": authentication, **result}
        return await self._result_for_caller(result, params)

    async def _new_token(self, subject: Any, payload: Mapping[str, Any], began: float) -> tuple[str, Claims]:
        """Return a token for a login that began at that moment.

        The times of tokens are whole seconds. If the user's tokens were revoked within this second, the login waits for
        the next one. Otherwise another change of the password could not revoke the new token. Raises NotAuthenticated
        if the password was changed since the login began, as the login has proven the old one.
        """
        if (seconds := int(self.ended.get(str(subject), 0)) + 1 - time.time()) > 0:
            await asyncio.sleep(min(seconds, 1))
        ended = self.ended.get(str(subject), 0)
        if began <= ended:
            raise NotAuthenticated("Invalid login")
        return self.tokens.create(subject, payload, issued=max(int(began), int(ended) + 1))

    @describe(result=LOGIN, statuses=(200,), strategies=("jwt",), errors=(401, 404), collection=True)
    async def remove(self, id: Any, params: Params) -> Result:
        """Log out: revoke the token of the call. Raises NotAuthenticated, and BadRequest without a token."""
        authentication = params.authentication
        result = await self.authenticate(authentication, params, *self.settings.get("authStrategies", ()))
        if "accessToken" not in result:
            raise BadRequest("Only a login can be logged out")
        if id is not None and id != result.get("accessToken"):
            raise NotAuthenticated("Invalid access token")
        await self.revoke(result["authentication"]["payload"], params.connection)
        # A hook of the users cannot prevent a logout.
        return await self._result_for_caller(result, params, FeathersError)

    async def _result_for_caller(
        self, result: Result, params: Params, refusal: type[FeathersError] = MethodNotAllowed
    ) -> Result:
        """Return the result with the entity as the caller may see it.

        That is only the id if the entity's service raises the ``refusal``. Hooks have the whole entity in ``params``.
        """
        if self.entity is None or result.get(self.entity) is None:
            return result
        params[self.entity] = result[self.entity]
        if not params.provider:
            return result
        id = self._id_of(result[self.entity])
        try:
            seen = await self._entity_for_caller(id, result, params)
        except refusal:
            seen = None
        shown = self._without_password(seen) if isinstance(seen, Mapping) else {self.entity_id: id}
        return {**result, self.entity: shown}

    async def _entity_for_caller(self, id: Any, result: Result, params: Params) -> Any:
        """Return the entity as ``get`` of its service returns it to the caller, without hidden fields.

        The call has ``params.is_login``, so that hooks which count requests can ignore it.
        """
        chosen = {name: value for name, value in params.query.items() if name == "$select"}
        kept = {name: value for name, value in params.items() if name not in _OF_ONE_CALL}
        proof = {"authentication": result["authentication"], "authenticated": True, "query": chosen, "is_login": True}
        try:
            return (await self.users._run("get", id=id, params={**kept, **proof})).external
        except NotFound:
            raise _no_user() from None

    def _id_of(self, user: Mapping[str, Any]) -> Any:
        """Return the id of an entity. Raises NotAuthenticated if it has none, as a token needs a subject."""
        if (id := user.get(self.entity_id)) is None:
            raise NotAuthenticated(f"Can not set subject from {self.entity}.{self.entity_id}")
        return id

    def _without_password(self, user: Mapping[str, Any]) -> Result:
        return {name: value for name, value in user.items() if name != self.password_field}

    async def revoke(self, claims: Mapping[str, Any], spare: Connection | None = None) -> None:
        """Revoke a token in all processes, and forget revoked tokens that have expired since.

        Connections that logged in with the token are closed, except ``spare``, the connection that logs out.
        """
        async with self._unit_of_work():
            if self.revocations is not None:
                await self._store_revocation(claims["jti"], datetime.fromtimestamp(claims["exp"], UTC))
            self.app.bus.send("revoked", {"jti": claims["jti"], "exp": claims["exp"]})
            after_commit(partial(self._revoke_here, claims, spare))

    def _revoke_here(self, claims: Mapping[str, Any], spare: Connection | None) -> None:
        now = int(time.time())
        self.revoked = {jti: expiry for jti, expiry in self.revoked.items() if expiry > now}
        self.revoked[claims["jti"]] = claims["exp"]
        self.sessions.end_token(claims["jti"], spare)

    async def end_tokens(self, id: Any) -> None:
        """Revoke all tokens of a user in all processes, and close their sockets.

        The service calls this after a change of the password and after the removal of the user. In a transaction the
        tokens are revoked with its commit::

            await app.get("defaultAuthentication").end_tokens(user_id)
        """
        moment = time.time()
        async with self._unit_of_work():
            if self.revocations is not None:
                expires_at = datetime.fromtimestamp(moment + self._kept, UTC)
                await self._store_revocation(f"before:{moment:.3f}:{id}", expires_at)
            # With a log this message is stored with the change, so it is not lost with the process.
            self.app.bus.send("tokens-ended", {"subject": str(id), "moment": moment})
            after_commit(partial(self._end_tokens, str(id)))

    def _end_tokens(self, subject: str) -> None:
        """Revoke the tokens up to now, as logins with the old password were possible until the commit."""
        moment = time.time()
        self.ended = {known: ended for known, ended in self.ended.items() if ended + self._kept > moment}
        self.sessions.end_tokens(subject, moment)
        self.app.bus.send("tokens-ended", {"subject": subject, "moment": moment})

    async def _follow_change(self, context: Context) -> None:
        """End the sessions of users that were removed or have a new password, and read others again: an after hook.

        The other processes learn of it with the commit of the change.
        """
        if context.id is None:
            ids = [user[self.entity_id] for user in items(context.method, context.result)]
        else:  # A caller may write the id in another form, and a hook may have removed it from the result.
            service = self.users.service
            ids = [service.typed_id(context.id) if isinstance(service, Adapter) else context.id]
        is_removed = context.method == "remove"
        for id in ids:
            if is_removed or self.password_field in (context.data or ()):
                await self.end_tokens(id)
            self.app.bus.send("signed-out" if is_removed else "user-changed", id)

    def _database(self) -> Any:
        """Return the database of the revoked tokens, or None."""
        return (
            None if self.revocations is None else getattr(self.app.service(self.revocations).service, "database", None)
        )

    def _unit_of_work(self) -> AbstractAsyncContextManager[None]:
        """Return a transaction in which a revocation is stored, together with the message about it."""
        database = self._database()
        return transaction() if database is None else database.transaction()

    async def _store_revocation(self, jti: str, expires_at: datetime) -> None:
        store, database = self.app.service(self.revocations or ""), self._database()
        with tenant_context(ALL_TENANTS):
            await store.remove(None, {"query": {"expires_at": {"$lt": datetime.now(UTC)}}})
            with suppress(Conflict):  # Two logouts with the same token at once.
                async with savepoint() if database is None else database.savepoint():
                    await store.create({"jti": jti, "expires_at": expires_at})

    def strategy_of(self, authentication: Any, allowed: tuple[str, ...]) -> Strategy:
        """Return the strategy that a proof names. Raises NotAuthenticated if it is not one of the allowed ones."""
        name = authentication.get("strategy") if isinstance(authentication, dict | Mapping) else None
        if not name:
            raise NotAuthenticated("Invalid authentication information (no `strategy` set)")
        if name not in allowed:
            raise NotAuthenticated("Invalid authentication information (strategy not allowed in authStrategies)")
        if name not in self.strategies:
            raise NotAuthenticated("Invalid authentication information")
        return self.strategies[name]


class Verified(NamedTuple):
    """A proof as its caller has sent it, and the result of its strategy, with the entity or without.

    Calls inside of a call have the rights of its caller, and need not verify the proof again.
    """

    proof: Any
    result: Result
    has_entity: bool


async def _verified(strategy: Strategy, proof: Any, params: Params, entity: bool) -> Verified:
    result = await (strategy.authenticate(proof, params) if entity else strategy.verify(proof))
    # ``authentication`` has the token as well.
    return Verified(proof, {name: value for name, value in result.items() if name != "accessToken"}, entity)


def authenticate(*strategies: str, entity: bool = True) -> Hook:
    """Return a hook that requires callers from outside to be authenticated by one of the strategies.

    It belongs before a method or among the around hooks. It sets ``params.authentication`` (with the ``payload`` of the
    token) and the entity, ``params.user``. With ``entity=False`` it checks the proof without reading the entity. Then
    the data and the query of a request can be checked before anything is read from the database::

        app.use("messages", Messages(), hooks={"before": {"all": [authenticate("jwt", "api-key")]}})

    Raises ValueError without a strategy. The hook raises NotAuthenticated.
    """
    if not strategies:
        raise ValueError("The authenticate hook needs at least one allowed strategy")

    @belongs("before", "around")
    @describe(strategies=strategies, errors=(401,))
    async def authenticate(context: Context) -> None:
        params = context.params
        service: AuthenticationService | None = context.app.settings.get("defaultAuthentication")
        if service is None:
            raise NotAuthenticated("Could not find a valid authentication service")
        if params.get("authenticated") is True:
            return
        proof = params.get("authentication")
        if proof is None:
            if params.get("provider"):
                raise NotAuthenticated("Not authenticated")
            return
        strategy = service.strategy_of(proof, strategies)
        known: Verified | None = params.get(VERIFIED)
        if known is None or known.result.get("authentication") is not proof:
            known = await _verified(strategy, proof, params, entity)
        elif entity and not known.has_entity:
            known = await _verified(strategy, known.proof, params, entity)
        for name, value in known.result.items():
            # Hooks may change their entity, but not that of inner calls.
            params[name] = value if name == "authentication" else copy(value)
        params[VERIFIED] = known
        params["authenticated"] = True
        params.pop("accessToken", None)

    return authenticate


def _forbid_caching(context: Context) -> None:
    """Forbid caches to store an answer with a token (RFC 6749, 5.1). An after hook."""
    if context.http is not None:
        context.http["headers"] = {**context.http.get("headers", {}), "Cache-Control": "no-store"}


def _default_scheme(name: str) -> dict[str, Any]:
    """Return a security scheme for a strategy that declares none."""
    return {"type": "http", "scheme": name, "description": f"The strategy '{name}' reads it from the headers."}


def _challenge(scheme: Mapping[str, Any]) -> str:
    if scheme.get("type") == "http":
        name = str(scheme["scheme"]).capitalize()
        return f'{name} realm="api"' if name == "Basic" else name  # RFC 7617, section 2: a realm is required.
    return f'ApiKey in="{scheme["in"]}", name="{scheme["name"]}"' if scheme.get("type") == "apiKey" else "Bearer"


def _no_user() -> NotAuthenticated:
    return NotAuthenticated("The user of this token no longer exists")
