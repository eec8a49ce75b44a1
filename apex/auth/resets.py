"""The reset of a forgotten password, with a token that is sent to the user, expires, and works once.

No token is stored. The server's secret signs it, with a digest of the user's name and password hash. So a new password
and a new name end the tokens that were sent before.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from apex.app import Apex
from apex.auth.service import AuthenticationService, Result
from apex.context import Params, current_call
from apex.describe import describe
from apex.errors import BadRequest, NotFound
from apex.limits.rates import FailureLimit
from apex.schema import PasswordField, Schema, fields, load, validate
from apex.service import Service
from apex.tenant import ALL_TENANTS, tenant_context
from apex.transaction import transaction_of

REQUESTS = {"account": 3, "address": 20}
"""The requests in a minute, for an account and from an address, after which the next one has to wait."""
LONGEST = 1_024
"""The most characters of a name and of a token."""
DIGITS = 32
"""The characters of a digest in a token: 192 bits."""

REQUEST: dict[str, Any] = {
    "title": "PasswordResetRequest",
    "type": "object",
    "properties": {"email": {"type": "string", "examples": ["ann@example.com"]}},
    "required": ["email"],
}
NEW_PASSWORD: dict[str, Any] = {
    "title": "PasswordReset",
    "type": "object",
    "properties": {"token": {"type": "string"}, "password": {"type": "string", "format": "password"}},
    "required": ["token", "password"],
}
MESSAGE: dict[str, Any] = {
    "title": "PasswordResetMessage",
    "type": "object",
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
}
"""The shapes of the data and of the results, for OpenAPI."""


class NewPasswordSchema(Schema):
    """The data of ``finish``."""

    token = fields.String(required=True, validate=validate.Length(1, LONGEST))
    password = PasswordField(required=True)


class PasswordResets(Service):
    """The service with which users who have forgotten their password get a new one::

        async def send(user, token):
            await send_mail(user["email"], f"Choose a new password: https://example.com/reset#{token}")

        app.use("password-resets", PasswordResets(authentication, send))

    ``create`` takes the name of a user, such as ``{"email": ...}``. ``send`` is called after the answer, with the user
    and a token that lasts ``seconds``. If there is no such user, or ``entity_query`` of the authentication service
    leaves it out, the answer is the same, and ``send`` is not called.

    ``finish`` takes ``{"token": ..., "password": ...}``. It stores the password by ``patch`` of the users' service,
    whose hooks check and hash it. All logins of the user end.
    """

    methods: Sequence[str] | None = ("create", "finish")
    summaries: Mapping[str, str] = {"create": "Ask for a password reset", "finish": "Choose a new password"}
    repeatable = False
    logged: bool = False

    def __init__(
        self, authentication: AuthenticationService, send: Callable[[Result, str], Any], *, seconds: int = 3_600
    ) -> None:
        self.authentication: AuthenticationService = authentication
        self.send: Callable[[Result, str], Any] = send
        self.seconds: int = seconds
        self._key = hmac.digest(authentication.settings["secret"].encode(), b"password reset", "sha256")
        name = fields.String(required=True, validate=validate.Length(1, LONGEST))
        self._request = cast("Schema", Schema.from_dict({authentication.username_field: name})())
        self._limit = FailureLimit("resets", authentication._counted, REQUESTS)

    async def setup(self, app: Apex, path: str) -> None:
        """Send the events of this service to nobody. Raises ValueError if the users' service has no ``patch``."""
        app.service(path).publish(lambda data, context: None)
        if "patch" not in self.authentication.users._hookable:
            raise ValueError(f"Service '{self.authentication.users._path}' has no 'patch': a reset stores with it")

    @describe(data={"create": REQUEST}, result=MESSAGE, errors=(429,))
    async def create(self, data: Any, params: Params) -> Result:
        """Send a token to the user of a name, if there is one. Raises BadRequest and TooManyRequests."""
        name: str = load(self._request, data, "Invalid data")[self.authentication.username_field]
        counters = self.authentication._counters(name, params)
        await self._limit.admit(counters)
        await self._limit.fail(counters)  # Each request counts, whether there is such a user or not.
        query = await self.authentication.entity_query(params)
        user = await self.authentication.user_named(name, query, {"private": ()})
        call = current_call.get()
        if user is not None and call is not None:
            call.after_response(self.send, self._shown(user), self._token(user))
        return {"message": "If there is such a user, a message with a link is on its way"}

    @describe(data={"finish": NEW_PASSWORD}, result=MESSAGE)
    async def finish(self, data: Any, params: Params) -> Result:
        """Store a new password for the user of a token. Raises BadRequest for a token that is no longer valid."""
        given: dict[str, str] = load(NewPasswordSchema(), data, "Invalid data")
        id, digest = self._read(given["token"])
        users = self.authentication.users
        query = await self.authentication.entity_query(params)
        with tenant_context(ALL_TENANTS):
            async with transaction_of(self.authentication.app, users.service):
                try:
                    user = await users.get(id, {"query": query, "adapter": {"private": (), "lock": True}})
                except NotFound:
                    raise _invalid() from None
                if not hmac.compare_digest(digest, self._digest(user)):
                    raise _invalid()
                await users.patch(id, {self.authentication.password_field: given["password"]})
        return {"message": "Your password is changed, and all your logins have ended: log in again"}

    def _token(self, user: Mapping[str, Any]) -> str:
        """Return a token: the id of the user, the second at which it expires, the user's digest and a signature."""
        signed = f"{user[self.authentication.entity_id]}.{int(time.time()) + self.seconds}.{self._digest(user)}"
        return f"{signed}.{self._sign(signed)}"

    def _read(self, token: str) -> tuple[str, str]:
        """Return the id and the digest of a token. Raises BadRequest if it is forged or too old."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            raise _invalid()
        id, expires, digest = signed.rsplit(".", 2)
        if int(expires) < time.time():
            raise _invalid()
        return id, digest

    def _digest(self, user: Mapping[str, Any]) -> str:
        """Return a digest of what a reset changes, the hash of the password, and of the name that the token went to."""
        authentication = self.authentication
        return self._sign(f"{user.get(authentication.username_field)}\0{user.get(authentication.password_field)}")

    def _sign(self, text: str) -> str:
        return urlsafe_b64encode(hmac.digest(self._key, text.encode(), "sha256"))[:DIGITS].decode()

    def _shown(self, user: Mapping[str, Any]) -> Result:
        hidden = (*getattr(self.authentication.users.service, "private", ()), self.authentication.password_field)
        return {name: value for name, value in user.items() if name not in hidden}


def _invalid() -> BadRequest:
    return BadRequest("Invalid data", errors={"token": "Is wrong, used or too old: ask for a new one"})
