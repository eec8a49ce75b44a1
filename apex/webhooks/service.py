"""The service for webhooks: callers register URLs, and the app posts its events to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from sqlalchemy import Table, func, select, update

from apex._lazy import extra
from apex.adapters.options import AdapterOptions
from apex.app import Apex
from apex.common.fields import now
from apex.context import Context, Params
from apex.describe import describe
from apex.encoding import RawJSON, decode, encode
from apex.errors import BadRequest, ConfigError, NotAuthenticated, NotFound, Unprocessable
from apex.hooks import Around, Next, Steps
from apex.log.app_log import Log
from apex.log.position import Position
from apex.log.rights import MayRead, Rights
from apex.log.table import TENANT
from apex.permissions.rules import entity_id
from apex.query.coercion import timestamp
from apex.query.evaluation import stamped
from apex.query.language import suggestion
from apex.schema.fields import BooleanField, TextField
from apex.schema.validation import Schema, fields, validate
from apex.service import BoundService
from apex.sql.service import SQLService
from apex.tenant import ALL_TENANTS, tenant_context
from apex.types import UNSET, Row
from apex.webhooks.addresses import LONGEST_URL, Addresses, ForbiddenAddress, resolve
from apex.webhooks.secrets import SecretStore
from apex.webhooks.signatures import new_secret
from apex.webhooks.subscriptions import LONGEST_EVENT, MOST_EVENTS, events_of, require_events
from apex.webhooks.tables import LIVE, deliveries_table

if TYPE_CHECKING:
    from apex.webhooks.dispatcher import Dispatcher

MOST = 100
"""The most webhooks of a tenant, unless the setting ``webhooks.max`` says otherwise."""

GRACE = timedelta(hours=24)
"""The time for which the secret before a rotation still signs, beside the new one."""

INVALID = "Invalid webhook data"

INTERNAL = ("secret", "previous_secret", "failures", "due_at", "holder", "leased_until")
"""Columns that no caller sees."""

SERVED = (
    "position", "disabled_reason", "failing_since", "last_success_at", "grace_until", "paused_until",
    *INTERNAL,
)  # fmt: skip
"""Columns that only the service writes."""

CHANGES = "webhook_changes"
"""The param with which the service itself changes such columns, by a call that passes the hooks of the app."""

ID = {"type": ["integer", "string"]}
ANSWER: dict[str, Any] = {
    "title": "WebhookAnswer",
    "type": "object",
    "properties": {
        "status": {"type": ["integer", "null"], "description": "The HTTP status, or null without an answer."},
        "duration": {"type": "integer", "description": "Milliseconds."},
        "answer": {"type": "string", "description": "The first characters of the answer's body."},
        "error": {"type": ["string", "null"], "description": "Why the message counts as not delivered, or null."},
    },
    "required": ["status", "duration", "answer", "error"],
}
SECRET = {
    "type": "string",
    "description": "The secret with which messages are signed. It is shown only in this answer.",
}


class WebhookSchema(Schema):
    """The fields of a webhook that callers write. The service itself checks the URL and the events."""

    url = TextField(required=True, max=LONGEST_URL, metadata={"example": "https://webhooks.example/orders"})
    events = fields.List(
        TextField(max=LONGEST_EVENT),
        required=True,
        validate=validate.Length(1, MOST_EVENTS),
        metadata={"example": ["*"]},
    )
    description = TextField(max=200, allow_none=True)
    enabled = BooleanField()
    created_at = fields.DateTime(dump_only=True)
    position = fields.String(dump_only=True)
    disabled_reason = fields.String(dump_only=True, allow_none=True)
    failing_since = fields.DateTime(dump_only=True, allow_none=True)
    last_success_at = fields.DateTime(dump_only=True, allow_none=True)
    paused_until = fields.DateTime(dump_only=True, allow_none=True)
    grace_until = fields.DateTime(dump_only=True, allow_none=True)


class Webhooks(SQLService):
    """A service for webhooks. A subclass names its table::

        webhooks = webhooks_table(metadata)

        class MyWebhooks(Webhooks):
            table = webhooks
            permissions = {"admin": can("*")}

        app.use("webhooks", MyWebhooks(), hooks={"around": {"all": [authenticate("jwt"), authorize]}})

    The app needs a log, ``authentication.secret`` and the extra ``webhooks``. The app delivers from setup to teardown.

    A webhook gets the events of its tenant that its maker may read, when they are sent: ``permissions`` decide, as for
    sockets. The maker is the user who has created it, or has last changed its URL or its events.
    """

    may_read: ClassVar[Mapping[str, MayRead]] = {}
    """Functions of ``(record, params)`` by path, for services whose permissions do not tell who may read a record."""
    pauses: ClassVar[Sequence[float]] = (5, 30, 120, 600, 3_600)
    """The seconds before the next attempt of a message, by the number of its failures. The last pause repeats."""
    patience: ClassVar[float] = 86_400
    """The seconds after the first failure of a message, at which its webhook is disabled."""
    verify: ClassVar[SSLContext | None] = None
    """The certificates that receivers are checked with, by default those that Python trusts."""

    methods: Sequence[str] | None = ("find", "get", "create", "patch", "remove", "rotate", "replay", "test")
    events: Sequence[str] = ("disabled",)
    private: Sequence[str] = INTERNAL
    volatile: Sequence[str] = ("position", "failing_since", "last_success_at", "paused_until")
    repeatable = False  # An answer has a secret, which must not be stored.
    summaries: Mapping[str, str] = {
        "rotate": "Make a new secret",
        "replay": "Send the events since a moment again",
        "test": "Send a test message",
    }

    def __init__(self, table: Table | None = None, **options: Unpack[AdapterOptions]) -> None:
        if table is not None:
            self.table = table
        super().__init__(**options)
        self.tenant: str | None = self.table.info.get(TENANT)
        deliveries_table(self.table)  # Raises TypeError for another table.

    async def setup(self, app: Apex, path: str) -> None:
        """Begin to deliver. Raises ConfigError if the app has no log or no secret."""
        with extra("webhooks", "The sending of webhooks"):
            from apex.webhooks.dispatcher import Dispatcher

        await super().setup(app, path)
        if not isinstance(app.log, Log):
            raise ConfigError(f"Service '{path}' delivers from the log, and there is none: app.configure(log(...))")
        settings: Mapping[str, Any] = app.get("webhooks") or {}
        self.app: Apex = app
        self.log: Log = app.log
        self.path: str = path
        self.most: int = settings.get("max", MOST)
        self.secrets: SecretStore = SecretStore(app.settings)
        self.rights: Rights = Rights(app, self.may_read, self.data)
        self.addresses: Addresses = Addresses(settings.get("networks", ()), self.resolve)
        self._require_type_of_makers()
        if self.secrets.is_rotating:
            await self._encrypt_again()
        self.dispatcher: Dispatcher = Dispatcher(self)
        if not app.get("isCommand"):  # A command in a terminal sends nothing but tests.
            await self.dispatcher.start()

    def _require_type_of_makers(self) -> None:
        """Raise ConfigError if the table keeps the ids of users with another type, as no rule could compare them."""
        authentication = self.app.get("defaultAuthentication")
        if authentication is None or authentication.entity is None:
            return
        path = authentication.settings.get("service", "users")
        users = self.app.services.get(path)
        table: Table | None = None if users is None else getattr(users.service, "table", None)
        if table is None or authentication.entity_id not in table.c:
            return
        id = table.c[authentication.entity_id].type
        with suppress(NotImplementedError):  # The type does not tell that of its values.
            if id.python_type is not self.table.c["user_id"].type.python_type:
                raise ConfigError(
                    f"'{self.table.name}' has a column 'user_id' of another type than the ids of '{path}': name it, as "
                    f"in webhooks_table(metadata, Column('user_id', {type(id).__name__}))"
                )

    async def teardown(self, app: Apex, path: str) -> None:
        """End the deliveries that run. What was not delivered follows in another process, or after the next start."""
        await self.dispatcher.stop()

    def data(self, context: Context) -> Any:
        """Return what receivers get of an event, from its context as publishers get it, by default what sockets get.

        The rights of the maker limit it further.
        """
        return UNSET

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the IP addresses of a host. Override it to ask another DNS than that of the operating system."""
        return await resolve(host, port)

    async def caller(self, webhook: Row) -> Mapping[str, Any] | None:
        """Return the params of a call by the maker of a webhook, or None if it may no longer do anything.

        Permissions, and the function ``of`` of roles, see these params. By default ``user`` is the maker. Override it
        in an app whose hooks set further params, such as the memberships of the user. None disables the webhook.
        """
        authentication = self.app.get("defaultAuthentication")
        if webhook["user_id"] is None or authentication is None or authentication.entity is None:
            return {}
        try:
            user = await authentication.user_of(webhook["user_id"])
        except NotAuthenticated:
            return None
        return {authentication.entity: user, "authenticated": True}

    @describe(result="record", adds={"secret": SECRET}, errors=(404,))
    async def rotate(self, data: Any, params: Params) -> Row:
        """Replace the secret of the webhook `id`. For 24 hours messages are signed with both secrets.

        Raises NotFound.
        """
        id = self._id(data)
        secret = new_secret()
        async with self.unit_of_work():
            row = await self._own(id, params)
            changes = {
                "secret": self.secrets.encrypt(secret),
                "previous_secret": row["secret"],
                "grace_until": now() + GRACE,
            }
            changed = await self.change(id, changes, params)
        return {**changed, "secret": secret}

    @describe(result="record", errors=(404, 410))
    async def replay(self, data: Any, params: Params) -> Row:
        """Send the events after `position`, or those since the moment `since`, again to the webhook `id`.

        Raises NotFound, BadRequest, and Gone if the log no longer has them.
        """
        id = self._id(data, "position", "since")
        given = {name: data[name] for name in ("position", "since") if data.get(name) is not None}
        if len(given) != 1:
            raise BadRequest(INVALID, errors={"since": "Give a moment as `since`, or a position as `position`"})
        row = await self._own(id, params)
        if "position" in given:
            position = _position(given["position"])
            await self.log.check(position)
        else:
            tenants = None if self.tenant is None else [row[self.tenant]]
            position = await self.log.position_at(_moment(given["since"]), tenants=tenants)
        changed = await self.change(id, {"position": str(position), **released()}, params)
        self.dispatcher.wake()
        return changed

    @describe(result=ANSWER, errors=(404,))
    async def test(self, data: Any, params: Params) -> Row:
        """Send a message of the type `webhooks test` to the webhook `id`, and return the answer of its receiver.

        Raises NotFound.
        """
        row = await self._own(self._id(data), params)
        return await self.dispatcher.test(row)

    def _id(self, data: Any, *more: str) -> Any:
        """Return the id in the data of a custom method. Raises BadRequest."""
        known = ("id", *more, *([self.tenant] if self.tenant is not None else []))
        if not isinstance(data, Mapping) or data.get("id") is None:
            raise BadRequest(INVALID, errors={"id": "Is required"})
        for name in data:
            if name not in known:
                raise BadRequest(INVALID, errors={str(name)[:100]: f"Unknown field.{suggestion(str(name), known)}"})
        return data["id"]

    async def _own(self, id: Any, params: Params) -> Row:
        """Return a webhook within the scope of a call, with all its columns and locked. Raises NotFound."""
        inside = Params({"scope": params.scope, "adapter": {"private": (), "lock": True}})
        found: Row = await self.get(id, inside)
        return found

    async def change(self, id: Any, changes: Row, params: Params) -> Row:
        """Store changes that the service makes itself, by a patch that passes the hooks of the app."""
        inside = {"scope": params.scope, "user": params.user, CHANGES: changes}
        changed: Row = await self.app.service(self.path).patch(id, {}, inside)
        return changed

    async def disable(self, id: Any, reason: str) -> None:
        """Disable a webhook, and send the event ``disabled``."""
        with suppress(NotFound):
            async with self.unit_of_work():
                changes = {"enabled": False, "disabled_reason": reason, **released()}
                row = await self.change(id, changes, Params())
                self.app.service(self.path).emit("disabled", row)

    def _hooks_around(self, bound: BoundService, method: str, steps: Steps) -> Sequence[Around]:
        own = {"create": self._prepare_create, "patch": self._prepare_patch}.get(method)
        return [*super()._hooks_around(bound, method, steps), *([] if own is None else [own])]

    @describe(adds={"secret": SECRET}, methods=("create",), errors=(422,))
    async def _prepare_create(self, context: Context, next: Next) -> None:
        """Check a new webhook, and give it a secret that only the caller sees."""
        if not isinstance(context.data, Mapping):
            raise BadRequest(INVALID)
        data = dict(context.data)
        self._check(context, data, ("url", "events"))
        secret = new_secret()
        user = self._maker(context, data)
        # Where this process has read to: a read of the log here would need a second connection to the database.
        position = str(self.log.watermark)
        context.data = {**data, "user_id": user, "secret": self.secrets.encrypt(secret), "position": position}
        async with self.unit_of_work():
            await self._require_room(context)
            await self.dispatcher.store.begin_progress(position)
            await next()
        visible = context._visible

        def with_secret(value: Any) -> Any:
            shown = value if visible is None else visible(value)
            return {**(shown.value if isinstance(shown, RawJSON) else shown), "secret": secret}

        # Not ``dispatch``: sockets and the log would get it, too.
        context._visible = with_secret

    async def _prepare_patch(self, context: Context, next: Next) -> None:
        """Check the changes of a webhook. The user who changes its URL or its events becomes its maker."""
        changes = context.params.pop(CHANGES, None)
        if changes is not None:
            context.data = {**context.data, **changes}
            await next()
            return
        if context.id is None or not isinstance(context.data, Mapping):
            raise BadRequest("Change one webhook at a time")
        data = dict(context.data)
        if self.id in data:
            data = await self._without_shown(context, data)
        self._check(context, data)
        starts_again = bool({"url", "events"} & data.keys()) or data.get("enabled") is True
        if starts_again:
            data |= {**released(), "user_id": self._maker(context, data)}
        if data.get("enabled") is True:
            data |= {"disabled_reason": None, "failing_since": None}
        elif data.get("enabled") is False:
            data |= {"disabled_reason": None}
        context.data = data
        async with self.unit_of_work():
            await next()
            if starts_again:
                await self.dispatcher.store.retry(context.id)
        self.dispatcher.wake()

    async def _without_shown(self, context: Context, data: Row) -> Row:
        """Return the data of a whole record that is sent back, without the service's own fields as it was received."""
        shown = decode(encode(await self.get(context.id, Params({"scope": context.params.scope}))))
        received = {name for name in (*SERVED, "user_id") if name in data and data[name] == shown.get(name, UNSET)}
        return {name: value for name, value in data.items() if name not in (*received, *self.volatile)}

    def _check(self, context: Context, data: Row, required: Sequence[str] = ()) -> None:
        """Raise BadRequest for a URL that nothing may be sent to, and for events that do not exist."""
        errors = {name: "Is required" for name in required if data.get(name) is None}
        served = SERVED if context.params.provider is None else (*SERVED, "user_id")
        errors |= {name: "May not be written" for name in served if name in data}
        if "url" in data and "url" not in errors:
            try:
                if not isinstance(data["url"], str):
                    raise ForbiddenAddress("Must be a text")
                self.addresses.require_url(data["url"])
            except ForbiddenAddress as error:
                errors["url"] = str(error)
        if "events" in data and "events" not in errors:
            try:
                require_events(data["events"], self.known_events, list(self.rights.unread))
            except ValueError as error:
                errors["events"] = str(error)
        if errors:
            raise BadRequest(INVALID, errors=errors)

    @cached_property
    def known_events(self) -> dict[str, list[str]]:
        """The events that webhooks may be for, by service."""
        return events_of(self.app, self.rights.services, self.tenant)

    async def _require_room(self, context: Context) -> None:
        """Raise Unprocessable if the tenant of a new webhook has as many as it may have.

        Other calls for the tenant wait until the transaction around this one ends.
        """
        c, tenant = self.table.c, None
        count = select(func.count().label("count")).select_from(self.table)
        if self.tenant is not None:
            row = stamped(self._typed(context.data, self._read_only), self._allowed(context.params))
            tenant = row.get(self.tenant)
            count = count.where(c[self.tenant] == tenant)
        if (live := self.table.info.get(LIVE)) is not None:
            count = count.where(c[live].is_(None))
        await self.database.lock(f"adds to {self.table.name} of {tenant}")
        [found] = await self.database.execute(count)
        if found["count"] >= self.most:
            raise Unprocessable(
                f"There are {found['count']:,} webhooks, and {self.most:,} are the most: remove one, or let one "
                "receiver take several events"
            )

    def _maker(self, context: Context, data: Row) -> Any:
        """Return the user whose rights a webhook has: the caller, or the one that a call inside the process names."""
        user = data["user_id"] if data.get("user_id") is not None else entity_id(context)
        column = self.table.c["user_id"].type.python_type
        return str(user) if user is not None and column is str else user

    async def _encrypt_again(self) -> None:
        """Encrypt all secrets with the present secret of the app, so that its previous one can be taken away."""
        c = self.table.c
        with tenant_context(ALL_TENANTS):
            for row in await self.database.execute(select(c.id, c.secret, c.previous_secret)):
                again = {
                    name: self.secrets.encrypt_again(row[name])
                    for name in ("secret", "previous_secret")
                    if row[name] is not None
                }
                await self.database.execute(update(self.table).where(c.id == row["id"]).values(**again))


def released() -> Row:
    """Return the state of a webhook that no process may send for any more, and that the next one takes soon.

    A process that sends for it loses its claim, stops, and ends its lease. Until then no other one begins.
    """
    return {"holder": None, "paused_until": None, "failures": 0, "due_at": now()}


def _position(value: Any) -> Position:
    try:
        return Position.parse(value)
    except ValueError as error:
        raise BadRequest(INVALID, errors={"position": str(error)}) from None


def _moment(value: Any) -> datetime:
    try:
        return timestamp(value)
    except ValueError as error:
        rule = str(error)
        raise BadRequest(INVALID, errors={"since": rule[:1].upper() + rule[1:]}) from None


class Deliveries(SQLService):
    """A service for the last deliveries of webhooks, which callers can only read. A subclass names its table::

    class MyDeliveries(Deliveries):
        table = deliveries_table(webhooks)
        permissions = {"admin": can("find", "get")}
    """

    methods: Sequence[str] | None = ("find", "get")
    private: Sequence[str] = ()
    logged = False
