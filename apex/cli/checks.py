"""Checks of an app before it serves: secrets, tokens, database, migrations, Redis, the limits of tenants, the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from apex._lazy import extra
from apex.adapters.base import Adapter
from apex.app import Apex
from apex.common.auditing import is_secret
from apex.config import SECRET_BYTES, exposed_secrets
from apex.errors import ConfigError, Unavailable
from apex.log.rights import Rights
from apex.migrations.comparison import differences
from apex.migrations.migrate import pending, tables_of_code, unknown_revision
from apex.migrations.revisions import FOLDER
from apex.permissions.hook import limits_tenants
from apex.types import UNSET

Finding = dict[str, str]

DISTINCT: int = 10
"""The number of different characters in a secret. ``openssl rand -hex 32`` uses nearly all of its sixteen."""

FIXES = {
    "secret": "make one with 'openssl rand -hex 32' and set APEX_SECRET",
    "previousSecret": "unset APEX_PREVIOUS_SECRET and let all users log in again",
}
"""The settings with secrets, each with the fix for a weak one."""


def findings(app: Apex) -> list[Finding]:
    """Return the problems of an app. Each has the name of its ``check`` and a ``message`` with the fix."""
    checks = {
        "secret": secret,
        "authentication": authentication,
        "database": database,
        "redis": redis,
        "services": services,
        "permissions": undeclared,
        "log": event_log,
    }
    return [{"check": name, "message": message} for name, check in checks.items() for message in check(app)]


def secret(app: Apex) -> Iterator[str]:
    """Yield the weaknesses of both secrets. The previous secret verifies tokens too."""
    yield from exposed_secrets(app.settings, app.get("host") or "localhost")
    for name, fix in FIXES.items():
        value = (app.get("authentication") or {}).get(name) or None
        if value is not None and len(value.encode()) < SECRET_BYTES:
            yield f"authentication.{name} needs at least {SECRET_BYTES} bytes: {fix}"
        elif value is not None and len(set(value)) < DISTINCT:
            yield f"authentication.{name} has only {len(set(value))} different characters: {fix}"


def authentication(app: Apex) -> Iterator[str]:
    """Yield a problem if a restart would revive revoked tokens."""
    service = app.get("defaultAuthentication")
    if service is not None and service.revocations is None and app.get("database_url") is not None:
        yield "a restart revives tokens that were revoked: give AuthenticationService a service for them, 'revocations'"


def database(app: Apex) -> Iterator[str]:
    """Yield problems with the connection, the migrations, the tables, and PostgreSQL's policies for tenants."""
    url = app.get("database_url")
    if url is None:
        return
    try:
        if left := pending(url):
            yield f"migrations {', '.join(left)} are pending: run 'apex migrate'"
        elif (revision := unknown_revision(url)) is not None:
            yield f"a later version has migrated it to {revision}"
        else:
            yield from differences(url)
    except (ConfigError, Unavailable) as error:
        yield str(error)


def redis(app: Apex) -> Iterator[str]:
    """Yield a problem if Redis cannot be reached."""
    if url := app.get("redis"):
        with extra("redis", "Redis"):
            from apex.realtime.redis import connection_error

        if (reason := asyncio.run(connection_error(url))) is not None:
            yield f"it cannot be reached: {reason}"


def services(app: Apex) -> Iterator[str]:
    """Yield the services with rows of tenants that callers outside can call without a hook marked ``tenant_hook``."""
    for path, bound in app.services.items():
        unlimited = [method for method in bound._options.methods if not limits_tenants(bound, method)]
        if unlimited and has_tenants(app, bound.service):
            methods = ", ".join(unlimited)
            yield f"'{path}' does not limit callers to their tenants for {methods}: register a tenant_hook"


def undeclared(app: Apex) -> Iterator[str]:
    """Yield the services with records that declare no permissions, if others do, or if an API for events needs them."""
    with_records = [
        path
        for path, bound in app.services.items()
        if bound._policy is None and bound._options.methods and isinstance(bound.service, Adapter)
    ]
    if any(bound._policy is not None for bound in app.services.values()):
        for path in with_records:
            yield f"'{path}' has no permissions, although other services have: declare permissions, and add authorize"
        return
    for reader, bound in app.services.items():
        may_read = getattr(bound.service, "may_read", UNSET)
        if may_read is UNSET:
            continue
        for path in Rights(app, may_read).unread:
            if path in with_records:
                fix = "declare permissions and add authorize, or name it in may_read"
                yield f"'{path}' has no permissions, so '{reader}' leaves out its events: {fix}"


def event_log(app: Apex) -> Iterator[str]:
    """Yield what is wrong with the table of the log, and the services whose secrets its entries would have."""
    if app.log is None:
        return
    table = app.log.table
    with suppress(ConfigError):  # The check of the database tells it.
        if (FOLDER / "env.py").exists() and table.key not in tables_of_code()[0].tables:
            yield f"no migration makes its table '{table.name}': give log_table the metadata of the other tables"
    tenant = table.info.get("tenant")
    for path, bound in app.services.items():
        service: Any = bound.service
        if not bound._is_logged or not isinstance(service, Adapter):
            continue
        field = tenant_field(app, service)
        is_copied = tenant is not None and "tenant" in getattr(getattr(service, "table", None), "info", {})
        if not is_copied and field not in (None, tenant, service.id):  # A tenant is not a record of a tenant.
            fix = f"name the column: log_table(metadata, Column('{field}', ...), tenant='{field}')"
            yield f"the entries of '{path}' have no tenant, as the log has no '{field}': {fix}"
        for name in service.columns or ():
            if is_secret(name) and name not in bound._unsent:
                yield f"the entries of '{path}' would have '{name}': list it in private, or in answer_only"


def has_tenants(app: Apex, service: Any) -> bool:
    """Return True if the rows of a service's table belong to tenants."""
    return tenant_field(app, service) is not None


def tenant_field(app: Apex, service: Any) -> str | None:
    """Return the column with the tenant of a row, or None.

    ``info["tenant"]`` of the table names it, or else the app's setting ``tenant``.
    """
    table = getattr(service, "table", None)
    field: str | None = getattr(table, "info", {}).get("tenant", app.get("tenant"))
    return field if table is not None and field is not None and field in table.c else None
