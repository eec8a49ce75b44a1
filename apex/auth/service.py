"""Authentication: the service that gives and takes tokens, its strategies, and the ``authenticate`` hook."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol

from apex.adapters.base import Adapter
from apex.app import Apex
from apex.auth.jwt import Claims, Tokens
from apex.auth.passwords import Passwords
from apex.auth.sessions import Sessions
from apex.context import Context, Params
from apex.describe import describe, facts_of
from apex.errors import BadRequest, Conflict, FeathersError, MethodNotAllowed, NotAuthenticated, NotFound
from apex.hooks import Hook, belongs, flat, in_order
from apex.query.language import suggestion
from apex.query.predicates import Compare
from apex.rates import FailureLimit, Rates, rates_of
from apex.realtime.channels import Connection
from apex.request import network_of
from apex.service import BoundService, Service
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import after_commit

log = logging.getLogger("apex")

Result = dict[str, Any]

_SCHEME = re.compile(r"(\S+)\s+(\S+)")
_SCHEMES = ("bearer", "jwt")
_BEFORE = re.compile(r"before:([0-9.]+):(.*)", re.DOTALL)
FAILURES = {"account": 5, "address": 20}
"""The failed logins in a minute, for one account and from one address, after which the next ones have to wait."""
ALIKE = 10
"""The most users that are read for a name, if their names differ in case alone."""
_REMEMBERED = 30 * 86_400
"""Seconds for which the end of a user's tokens is remembered, or longer where tokens live longer."""
_OF_ONE_CALL = ("adapter", "paginate", "scope")
"""Params that belong to one call and are not passed on to another one."""

PROOF = {
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
LOGIN = {
    "title": "LoginResult",
    "type": "object",
    "properties": {"accessToken": {"type": "string"}, "authentication": {"type": "object"}, "user": {"type": "object"}},
    "required": ["authentication"],
}
"""What logs in, and what comes of it, as documents have them."""


class Strategy(Protocol):
    """One way to prove who one is.

    It may have a ``scheme``, the security scheme of OpenAPI that says how a request's headers carry the proof, such as
    ``{"type": "apiKey", "in": "header", "name": "x-pin"}``; None where a body alone carries it. It may have an
    ``entity``, which becomes the name under which its result has to carry the entity.
    """

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        """What the proof tells, without the entity. Raises NotAuthenticated or BadRequest."""
        ...

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        """``{"authentication": {...}, <entity>: {...}}``. Raises NotAuthenticated or BadRequest."""
        ...

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """The authentication that request headers carry, or None."""
        ...


class Attempt(NamedTuple):
    """One attempt to log in: its ``parties`` in the queue, and ``admit`` to call again when it is their turn."""

    parties: tuple[str, ...]
    admit: Callable[[], Awaitable[None]]


class AuthenticationService(Service):
    """The service that logs callers in (``create``) and out (``remove``).

    Configured by ``app.get("authentication")``. ``revocations`` is the path of a service, registered before this one,
    that stores the revoked tokens (``jti``, ``expires_at``) across restarts. Without it they are kept in memory. A
    record stands for one token, by its ``jti``, or for all tokens that a user was given up to a moment
    (``before:<seconds since 1970>:<id of the user>``).
    """

    methods = ("create", "remove")
    summaries = {"create": "Log in", "remove": "Log out"}
    multi = True  # ``create`` refuses a list itself, with an error that names a strategy.

    def __init__(self, app: Apex, *, revocations: str | None = None) -> None:
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
        self.tokens = Tokens(self.settings["secret"], options, previous, anyone=self.entity is None)
        self.passwords = Passwords(self.settings.get("argon2"))
        self.strategies: dict[str, Strategy] = {}
        self.revoked: dict[str, int] = {}
        self.ended: dict[str, float] = {}
        """For each subject the moment up to which its tokens are revoked."""
        self.sessions = Sessions(self)
        self._rates = Rates()
        self.failure_limit = FailureLimit(
            "logins", lambda: app.get("rates") or self._rates, {**FAILURES, **self.settings.get("failedLogins", {})}
        )
        self.path = "authentication"
        self.revocations = revocations
        # A token may be older than the current lifetime, if the setting was longer before.
        self._remembered = max(self.tokens.lifetime, _REMEMBERED)
        self._watched: BoundService | None = None
        self._bound: BoundService | None = None
        app.set("defaultAuthentication", self)
        app.parsers.append(self.parse)

    @property
    def users(self) -> BoundService:
        """The entity's service. Raises LookupError when it is not registered."""
        return self.app.service(self.settings.get("service", "users"))

    def register(self, name: str, strategy: Strategy) -> None:
        """Add a strategy. If it has an ``entity``, set it to the name under which results carry the entity."""
        if hasattr(strategy, "entity"):
            strategy.entity = self.entity
        self.strategies[name] = strategy

    async def setup(self, app: Apex, path: str) -> None:
        """Load the revoked tokens. Raises LookupError when the entity's service is missing, ValueError when it has no
        ``get``, and for a hook that names a misspelled strategy.
        """
        self.path = path
        self._check_hooks()
        if self.entity is not None and "get" not in self.users._hookable:
            raise ValueError(f"Service '{self.users._path}' has no 'get': a login reads the {self.entity} with it")
        if self.ignores_case is True and not isinstance(self.users.service, Adapter):
            raise ValueError(
                f"local.caseInsensitive has to be 'lower' for '{self.users._path}', which is no adapter of apex"
            )
        if app.get("rates") is None and self._bound is None:
            self._rates = rates_of(app)
        await self.load_revoked()
        self.sessions.follow(app)
        if app.service(path) is not self._bound:
            self._bound = app.service(path)
            self._bound.hooks({"after": {"all": [_keep_no_copy]}})
        if self.entity is not None and self.users is not self._watched:
            self._watched = self.users
            written = [method for method in ("update", "patch", "remove") if method in self.users._hookable]
            self.users.hooks({"after": {method: [self._end_tokens_of_before] for method in written}})

    def _check_hooks(self) -> None:
        for bound in self.app.services.values():
            for method in bound._hookable:
                for _, _, outer in in_order(self.app.store, bound._store, method):
                    for hook in flat(outer):
                        for name in getattr(facts_of(hook), "strategies", ()):
                            if name not in self.strategies and (hint := suggestion(name, self.strategies)):
                                raise ValueError(f"A hook of '{bound._path}' names the strategy '{name}'.{hint}")

    async def load_revoked(self) -> None:
        if self.revocations is not None:
            with tenant_context(ALL_TENANTS):
                rows = await self.app.service(self.revocations).find({"paginate": False})
            for row in rows:
                if match := _BEFORE.fullmatch(row["jti"]):
                    self.ended[match[2]] = max(float(match[1]), self.ended.get(match[2], 0))
                else:
                    self.revoked[row["jti"]] = int(row["expires_at"].timestamp())

    def is_revoked(self, claims: Mapping[str, Any]) -> bool:
        """Return True for the claims of a token that was logged out, or ended with all tokens of its user."""
        return claims["jti"] in self.revoked or claims["iat"] <= self.ended.get(claims.get("sub", ""), 0)

    @asynccontextmanager
    async def attempt(self, account: str, params: Params) -> AsyncIterator[Attempt]:
        """Limit attempts to guess a secret, for an account and from the caller's address.

        NotAuthenticated inside is counted and logged. Raises TooManyRequests where either has failed too often lately.
        """
        key = self.settings["secret"].encode()
        who = {"account": hmac.digest(key, account.strip().casefold().encode(), "sha256").hex()[:16]}
        if params.ip:
            who["address"] = network_of(params.ip)
        admit = partial(self.failure_limit.admit, who)
        await admit()
        try:
            yield Attempt(tuple(who.values()), admit)
        except NotAuthenticated:
            await self.failure_limit.fail(who)
            log.warning("A login failed: account %s, address %s", who["account"], who.get("address", "unknown"))
            raise

    @property
    def schemes(self) -> dict[str, dict[str, Any]]:
        """OpenAPI's security schemes, by strategy: the ways to log in by the headers of a request."""
        schemes = {name: getattr(strategy, "scheme", _unsaid(name)) for name, strategy in self.strategies.items()}
        return {name: dict(scheme) for name, scheme in schemes.items() if scheme is not None}

    @property
    def challenge(self) -> str:
        """The value of ``WWW-Authenticate`` for a 401 (RFC 9110, 11.6.1): one challenge for each security scheme."""
        return ", ".join(dict.fromkeys(_challenge(scheme) for scheme in self.schemes.values())) or "Bearer"

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """What the first strategy that finds something in the headers makes of it."""
        for strategy in self.strategies.values():
            if (authentication := strategy.parse(headers)) is not None:
                return authentication
        return None

    async def authenticate(self, authentication: Any, params: Params, *allowed: str) -> Result:
        """The result of the named strategy. Raises NotAuthenticated when it is not one of those allowed."""
        return await self.strategy_of(authentication, allowed).authenticate(authentication, params)

    async def verify(self, authentication: Any, *allowed: str) -> Result:
        """Like ``authenticate``, from the proof alone: the entity is not there."""
        return await self.strategy_of(authentication, allowed).verify(authentication)

    async def entity_query(self, params: Params) -> Mapping[str, Any]:
        """Return a query that an entity must match to be logged in, such as ``{"active": True}``. Override it."""
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
        """Return the entity without its password. Raises NotAuthenticated when it is gone or may not log in."""
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
        """Return the entity with a name.

        None where there is none, or where several names differ from it in case alone.
        """
        asked: dict[str, Any] = {**(query or {}), "$limit": ALIKE}
        adapter = dict(adapter or {})
        if self.ignores_case is not True:
            asked[self.username_field] = name.strip().lower() if self.ignores_case == "lower" else name
        else:  # One query in every case: the time that it takes tells nobody which names exist.
            pattern = re.sub(r"([%_\\])", r"\\\1", name.strip())
            adapter["where"] = Compare(self.username_field, "$ilike", pattern)
        try:
            with tenant_context(ALL_TENANTS):
                found = await self.users.find({"query": asked, "paginate": False, "adapter": adapter})
        except BadRequest:  # Nobody can be called this: the answer is that of any other unknown name.
            return None
        spelled = [user for user in found if user.get(self.username_field) == name.strip()]
        chosen = spelled if len(found) > 1 and self.ignores_case is True else found
        return dict(chosen[0]) if chosen else None

    @property
    def entity_id(self) -> str:
        """The id field of an entity: ``entityId`` of the settings, else its service's ``id``."""
        return str(self.settings.get("entityId") or getattr(self.users.service, "id", "id"))

    @describe(data={"create": PROOF}, result=LOGIN, errors=(401, 404, 429))
    async def create(self, data: Any, params: Params) -> Result:
        if isinstance(data, list):
            raise BadRequest("The data must be an object with a strategy")
        began = time.time()
        result = await self.authenticate(data, params, *self.settings.get("authStrategies", ()))
        # A proof with a payload is good for more calls: there is no need of a token.
        if "payload" not in result["authentication"]:
            payload = await self.payload_of(result, params)
            token, payload = await self._new_token(await self.subject_of(result, params), payload, began)
            authentication = {**result.pop("authentication"), "payload": payload}
            result = {"accessToken": token, "authentication": authentication, **result}
        return await self._shown(result, params)

    async def _new_token(self, subject: Any, payload: Mapping[str, Any], began: float) -> tuple[str, Claims]:
        """Return a token for a login that began at that moment.

        Tokens have whole seconds. So none is given within the second in which the others of the user have ended: the
        login waits for the next one, and a further new password ends its token as well. Raises NotAuthenticated where
        the password was changed since the login began: it has proven the old one.
        """
        if (left := int(self.ended.get(str(subject), 0)) + 1 - time.time()) > 0:
            await asyncio.sleep(min(left, 1))
        ended = self.ended.get(str(subject), 0)
        if began <= ended:
            raise NotAuthenticated("Invalid login")
        return self.tokens.create(subject, payload, issued=max(int(began), int(ended) + 1))

    @describe(result=LOGIN, statuses=(200,), strategies=("jwt",), errors=(401, 404), collection=True)
    async def remove(self, id: Any, params: Params) -> Result:
        authentication = params.authentication
        result = await self.authenticate(authentication, params, *self.settings.get("authStrategies", ()))
        if "accessToken" not in result:
            raise BadRequest("Only a login can be logged out")
        if id is not None and id != result.get("accessToken"):
            raise NotAuthenticated("Invalid access token")
        await self.revoke(result["authentication"]["payload"], params.connection)
        return await self._shown(result, params, FeathersError)  # A logout succeeds in any case.

    async def _shown(self, result: Result, params: Params, refusal: type[FeathersError] = MethodNotAllowed) -> Result:
        """Return the result with the entity as the caller may see it.

        That is the id alone where the entity's service raises the ``refusal``. Hooks have the whole entity in
        ``params``.
        """
        if self.entity is None or result.get(self.entity) is None:
            return result
        params[self.entity] = result[self.entity]
        if not params.provider:
            return result
        id = self._id_of(result[self.entity])
        try:
            seen = await self._seen_by_caller(id, result, params)
        except refusal:
            seen = None
        shown = self._without_password(seen) if isinstance(seen, Mapping) else {self.entity_id: id}
        return {**result, self.entity: shown}

    async def _seen_by_caller(self, id: Any, result: Result, params: Params) -> Any:
        """Return the entity as its service shows it to the caller, without the fields that are hidden there.

        The call has ``params.is_login``, for hooks that count what callers ask for.
        """
        chosen = {name: value for name, value in params.query.items() if name == "$select"}
        kept = {name: value for name, value in params.items() if name not in _OF_ONE_CALL}
        proof = {"authentication": result["authentication"], "authenticated": True, "query": chosen, "is_login": True}
        try:
            return (await self.users._run("get", id=id, params={**kept, **proof})).external
        except NotFound:
            raise _no_user() from None

    def _id_of(self, user: Mapping[str, Any]) -> Any:
        """Return the id of an entity. Raises NotAuthenticated if it has none, as no token can name it."""
        if (id := user.get(self.entity_id)) is None:
            raise NotAuthenticated(f"Can not set subject from {self.entity}.{self.entity_id}")
        return id

    def _without_password(self, user: Mapping[str, Any]) -> Result:
        return {name: value for name, value in user.items() if name != self.password_field}

    async def revoke(self, claims: Mapping[str, Any], spare: Connection | None = None) -> None:
        """Makes a token worthless at once, in all processes, and forgets those that have expired by themselves.

        Connections that logged in with it are closed, but for one to spare: that which logs itself out.
        """
        now = int(time.time())
        self.revoked = {jti: expiry for jti, expiry in self.revoked.items() if expiry > now}
        if self.revocations is not None:
            await self._keep(claims["jti"], datetime.fromtimestamp(claims["exp"], UTC))
        self.revoked[claims["jti"]] = claims["exp"]
        self.sessions.end_token(claims["jti"], spare)
        self.app.bus.send("revoked", {"jti": claims["jti"], "exp": claims["exp"]})

    async def end_tokens(self, id: Any) -> None:
        """Revoke all tokens that a user was given so far, in all processes, and close their sockets.

        The service does so itself after a new password and when the user is removed. In a unit of work the tokens end
        with its commit.
        """
        moment = time.time()
        if self.revocations is not None:
            expires_at = datetime.fromtimestamp(moment + self._remembered, UTC)
            await self._keep(f"before:{moment:.3f}:{id}", expires_at)
        after_commit(partial(self._end_tokens, str(id)))

    def _end_tokens(self, subject: str) -> None:
        """End the tokens now that the new password is stored: a login by the old one may have begun until now."""
        moment = time.time()
        self.ended = {known: ended for known, ended in self.ended.items() if ended + self._remembered > moment}
        self.sessions.end_tokens(subject, moment)
        self.app.bus.send("tokens-ended", {"subject": subject, "moment": moment})

    async def _end_tokens_of_before(self, context: Context) -> None:
        """After hook: end the tokens of users that were removed or have a new password."""
        if context.method != "remove" and self.password_field not in (context.data or ()):
            return
        if context.id is None:
            ids = [user[self.entity_id] for user in context.result]
        else:  # The stored id: a caller may spell it in another way, and a hook may have removed it from the result.
            service = self.users.service
            ids = [service.typed_id(context.id) if isinstance(service, Adapter) else context.id]
        for id in ids:
            await self.end_tokens(id)

    async def _keep(self, jti: str, expires_at: datetime) -> None:
        store = self.app.service(self.revocations or "")
        with tenant_context(ALL_TENANTS):
            await store.remove(None, {"query": {"expires_at": {"$lt": datetime.now(UTC)}}})
            with suppress(Conflict):  # Logged out twice at the same moment.
                await store.create({"jti": jti, "expires_at": expires_at})

    def strategy_of(self, authentication: Any, allowed: tuple[str, ...]) -> Strategy:
        """The strategy that a proof names. Raises NotAuthenticated when it is not one of those allowed."""
        name = authentication.get("strategy") if isinstance(authentication, Mapping) else None
        if not name:
            raise NotAuthenticated("Invalid authentication information (no `strategy` set)")
        if name not in allowed:
            raise NotAuthenticated("Invalid authentication information (strategy not allowed in authStrategies)")
        if name not in self.strategies:
            raise NotAuthenticated("Invalid authentication information")
        return self.strategies[name]


class JWTStrategy:
    """Who holds a token signed by this service, not expired and not revoked, is its subject."""

    scheme = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}

    def __init__(self, service: AuthenticationService) -> None:
        self.service = service

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        token = authentication.get("accessToken")
        if not token:
            raise NotAuthenticated("No access token")
        claims = self.service.tokens.verify(token)
        if self.service.is_revoked(claims):
            raise NotAuthenticated("Token revoked", {"name": "JsonWebTokenError"})
        proof = {"strategy": "jwt", "accessToken": token, "payload": claims}
        return {"accessToken": token, "authentication": proof}

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        result = await self.verify(authentication)
        if self.service.entity is not None:
            subject = result["authentication"]["payload"]["sub"]
            result[self.service.entity] = await self.service.user_of(subject, params)
        return result

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        """The token of ``Authorization: Bearer <token>``, or of a value without a scheme."""
        value = headers.get("authorization", "").strip()
        if not value:
            return None
        match = _SCHEME.fullmatch(value)
        if match is None:
            token = value if value and " " not in value else None
        else:
            scheme = match[1].lower()
            token = match[2] if scheme == "bearer" or any(known in scheme for known in _SCHEMES) else None
        return None if token is None else {"strategy": "jwt", "accessToken": token}


class LocalStrategy:
    """A strategy with a name and a password. Every failed login has the same answer and takes the same time.

    The name is spelled as it is stored. With ``local.caseInsensitive`` in the settings, case on both sides and spaces
    around the name are ignored. With ``"lower"`` it is compared in lower case with names that are stored so.
    """

    scheme = None

    def __init__(self, service: AuthenticationService) -> None:
        if service.entity is None:
            raise ValueError("The local strategy needs an entity: set authentication.entity")
        self.service = service
        self.username = service.username_field
        self.password = service.password_field

    async def verify(self, authentication: Mapping[str, Any]) -> Result:
        raise NotAuthenticated("Invalid login")

    async def authenticate(self, authentication: Mapping[str, Any], params: Params) -> Result:
        username, password = (_text(authentication, name) for name in (self.username, self.password))
        async with self.service.attempt(username, params) as attempt:
            user = await self._find(username, params)
            stored = user.pop(self.password, None) if user else None
            is_right = await self.service.passwords.verify(stored, password, attempt.parties, attempt.admit)
            if not is_right or user is None or stored is None:
                raise NotAuthenticated("Invalid login")
        if self.service.passwords.is_outdated(stored):
            await self._rehash(user[self.service.entity_id], password)
        private = getattr(self.service.users.service, "private", ())
        user = {name: value for name, value in user.items() if name not in private}
        return {"authentication": {"strategy": "local"}, str(self.service.entity): user}

    def parse(self, headers: Mapping[str, str]) -> Result | None:
        return None

    async def _rehash(self, id: Any, password: str) -> None:
        """Past the users' hooks, which would hash the hash."""
        hashed = await self.service.passwords.hash(password)
        with tenant_context(ALL_TENANTS):
            await self.service.users.service.patch(id, {self.password: hashed}, Params())

    async def _find(self, username: str, params: Params) -> dict[str, Any] | None:
        """Return the user with the password's hash, which the service keeps private."""
        query = await self.service.entity_query(params)
        return await self.service.user_named(username, query, {"private": ()})


def _keep_no_copy(context: Context) -> None:
    """After hook: no cache may store an answer with a token (RFC 6749, 5.1)."""
    if context.http is not None:
        context.http["headers"] = {**context.http.get("headers", {}), "Cache-Control": "no-store"}


def _unsaid(name: str) -> dict[str, Any]:
    """Return a security scheme for a strategy that declares none."""
    return {"type": "http", "scheme": name, "description": f"The strategy '{name}' reads it from the headers."}


def _challenge(scheme: Mapping[str, Any]) -> str:
    if scheme.get("type") == "http":
        name = str(scheme["scheme"]).capitalize()
        return f'{name} realm="api"' if name == "Basic" else name  # RFC 7617, section 2: a realm is required.
    return f'ApiKey in="{scheme["in"]}", name="{scheme["name"]}"' if scheme.get("type") == "apiKey" else "Bearer"


def _no_user() -> NotAuthenticated:
    return NotAuthenticated("The user of this token no longer exists")


def _text(authentication: Mapping[str, Any], name: str) -> str:
    value = authentication.get(name, "")
    if not isinstance(value, str):
        raise BadRequest("Invalid login data", errors={name: "must be a string"})
    if "\0" in value:
        raise NotAuthenticated("Invalid login")
    return value


def authenticate(*strategies: str, entity: bool = True) -> Hook:
    """A before hook, or among around hooks: callers from outside must be authenticated by one of the strategies.

    It sets ``params.authentication`` (with the token's ``payload``) and the entity, ``params.user``. With
    ``entity=False`` the proof alone is checked and the entity is not read, so that what is wrong with the rest of the
    request can be said before any work is done.
    """
    if not strategies:
        raise ValueError("The authenticate hook needs at least one allowed strategy")

    @belongs("before", "around")
    @describe(strategies=strategies, errors=(401,))
    async def authenticate(context: Context) -> None:
        params = context.params
        service: AuthenticationService | None = context.app.get("defaultAuthentication")
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
        result = await (strategy.authenticate(proof, params) if entity else strategy.verify(proof))
        params.update(result, authenticated=True)
        params.pop("accessToken", None)

    return authenticate
