"""Configuration in layers as in node-config: the default, the environment, local files and environment variables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any

from apex.auth.jwt import parse_duration
from apex.errors import BadRequest, ConfigError
from apex.limits.clients import HttpLimits
from apex.log.settings import LogOptions
from apex.schema.validation import Schema, ValidationError, fields, load, validate

__all__ = ["Config", "load_config"]

ENVIRONMENTS = ("development", "test", "production")
SECRET_BYTES = 32
SECRETS = {"secret": "APEX_SECRET", "previousSecret": "APEX_PREVIOUS_SECRET"}
"""The secrets in the settings of authentication, and the environment variables that set them."""

_REDIS = r"(rediss?|unix)://.+"
_DATABASE = r"(sqlite:///(?!:memory:).+|postgresql(\+psycopg)?://([^@]*@)?(\[[^\]]*\]|[^/:?]*)(:[0-9]+)?([/?].*)?)\Z"


def require_duration(value: Any) -> None:
    """Raise ValidationError unless the value is a number of seconds or a duration such as ``1d``."""
    try:
        parse_duration(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


def require_audience(value: Any) -> None:
    """Raise ValidationError unless the value is a string or a list of strings."""
    audiences = value if isinstance(value, list) else [value]
    if not audiences or not all(isinstance(one, str) and one for one in audiences):
        raise ValidationError("Must be a string, or a list of strings")


class Pagination(Schema):
    """The setting ``paginate``: the default and the largest size of a page."""

    default = fields.Integer(required=True, validate=validate.Range(min=1))
    max = fields.Integer(required=True, validate=validate.Range(min=1))


class JWTOptions(Schema):
    """The setting ``authentication.jwtOptions``."""

    header = fields.Dict(keys=fields.String(), values=fields.String(), load_default=lambda: {"typ": "access"})
    audience = fields.Raw(load_default="https://yourdomain.com", validate=require_audience)
    issuer = fields.String(load_default="feathers")
    subject = fields.String()
    algorithm = fields.String(load_default="HS256", validate=validate.OneOf(["HS256", "HS384", "HS512"]))
    expiresIn = fields.Raw(load_default="1d", validate=require_duration)


class LocalOptions(Schema):
    """The setting ``authentication.local``: the fields of name and password."""

    usernameField = fields.String(load_default="email")
    passwordField = fields.String(load_default="password")
    caseInsensitive = fields.Raw(load_default=False, validate=validate.OneOf([False, True, "lower"]))


class Argon2Options(Schema):
    """The setting ``authentication.argon2``: the cost of a password hash."""

    time_cost = fields.Integer()
    memory_cost = fields.Integer()
    parallelism = fields.Integer()


class FailedLogins(Schema):
    """The setting ``authentication.failedLogins``: failures in a minute."""

    account = fields.Integer(load_default=5, validate=validate.Range(min=1))
    address = fields.Integer(load_default=20, validate=validate.Range(min=1))


class Authentication(Schema):
    """The setting ``authentication``."""

    secret = fields.String(required=True)
    previousSecret = fields.String()
    entity = fields.String(load_default="user", allow_none=True)
    entityId = fields.String()
    service = fields.String(load_default="users")
    authStrategies = fields.List(fields.String(), load_default=lambda: ["jwt", "local"])
    jwtOptions = fields.Nested(JWTOptions, load_default=lambda: JWTOptions().load({}))
    local = fields.Nested(LocalOptions, load_default=lambda: LocalOptions().load({}))
    argon2 = fields.Nested(Argon2Options, load_default=dict)
    failedLogins = fields.Nested(FailedLogins, load_default=lambda: FailedLogins().load({}))


HttpOptions = Schema.from_dict(
    {
        name: fields.Integer(validate=validate.Range(min=1024 if name == "headerBytes" else 1))
        for name in HttpLimits._fields
    },
    name="HttpOptions",
)


class SocketOptions(Schema):
    """The setting ``sockets``."""

    origins = fields.List(fields.String())
    maxPayload = fields.Integer(validate=validate.Range(min=1))
    maxConnections = fields.Integer(validate=validate.Range(min=1))
    maxCalls = fields.Integer(validate=validate.Range(min=1))
    maxBacklog = fields.Integer(validate=validate.Range(min=1))


class RateLimit(Schema):
    """The setting ``rateLimit``: requests in a window, in seconds."""

    requests = fields.Integer(load_default=1000, validate=validate.Range(min=1))
    window = fields.Integer(load_default=3600, validate=validate.Range(min=1))


class UserRateLimit(RateLimit):
    """The setting ``userRateLimit``, a limit for each user."""

    requests = fields.Integer(load_default=10_000, validate=validate.Range(min=1))


class LogsOptions(Schema):
    """The setting ``logs``."""

    level = fields.String(validate=validate.OneOf(["debug", "info", "warning", "error"]))
    format = fields.String(validate=validate.OneOf(["json", "text"]))


def require_network(value: Any) -> None:
    """Raise ValidationError unless the value is a network such as ``10.1.0.0/16``."""
    try:
        ip_network(value)
    except ValueError:
        raise ValidationError("Must be a network such as 10.1.0.0/16") from None


class WebhookOptions(Schema):
    """The setting ``webhooks``: the most webhooks of a tenant, and the private networks that they may be sent to."""

    max = fields.Integer(load_default=100, validate=validate.Range(min=1))
    networks = fields.List(fields.String(validate=require_network), load_default=list)


class Config(Schema):
    """The schema of the settings that the framework reads.

    Extend it for settings of your own::

        class MyConfig(Config):
            pageSize = fields.Integer(load_default=25)


        config = load_config("config", schema=MyConfig)
    """

    host = fields.String(load_default="localhost")
    port = fields.Integer(load_default=3030, validate=validate.Range(min=0, max=65535))
    database = fields.String(
        validate=validate.Regexp(_DATABASE, error="must be sqlite:///file.db or postgresql://host/name")
    )
    origins = fields.List(fields.String(), load_default=lambda: ["*"])
    proxies = fields.Integer(load_default=0, validate=validate.Range(min=0, max=10))
    redis = fields.String(validate=validate.Regexp(_REDIS, error="must be redis://host:port/number"))
    http = fields.Nested(HttpOptions, load_default=dict)
    sockets = fields.Nested(SocketOptions, load_default=dict)
    drainSeconds = fields.Integer(load_default=0, validate=validate.Range(min=0, max=300))
    metrics = fields.Boolean(load_default=False)
    metricsToken = fields.String(validate=validate.Length(min=16))
    tracing = fields.Boolean(load_default=False)
    timing = fields.Boolean(load_default=False)
    log = fields.Nested(LogOptions, load_default=dict)
    logs = fields.Nested(LogsOptions, load_default=dict)
    webhooks = fields.Nested(WebhookOptions, load_default=lambda: WebhookOptions().load({}))
    forms = fields.Boolean(load_default=False)
    bodyLimit = fields.Integer(load_default=1024 * 1024, validate=validate.Range(min=1))
    paginate = fields.Nested(Pagination, load_default=lambda: {"default": 10, "max": 100})
    rateLimit = fields.Nested(RateLimit, load_default=lambda: RateLimit().load({}))
    userRateLimit = fields.Nested(UserRateLimit, load_default=lambda: UserRateLimit().load({}), allow_none=True)
    authentication = fields.Nested(Authentication)


def load_config(
    folder: str | Path, environ: Mapping[str, str] | None = None, schema: type[Schema] = Config
) -> Mapping[str, Any]:
    """Return the validated, read-only configuration of a folder with ``default.json``.

    The variable ``APEX_ENV`` names the environment: ``development`` (the default), ``test`` or ``production``. Its file
    overrides ``default.json``, ``local.json`` overrides both, and the variables that
    ``custom-environment-variables.json`` names override all files::

        app = Apex(load_config("config"))

    Raises ConfigError for files, keys, values or secrets that cannot be used.
    """
    environ = os.environ if environ is None else environ
    folder, env = Path(folder), environ.get("APEX_ENV", "development")
    if env not in ENVIRONMENTS:
        raise ConfigError(f"APEX_ENV is '{env}': use one of {', '.join(ENVIRONMENTS)}")
    if not (folder / "default.json").exists():
        raise ConfigError(f"{folder / 'default.json'} is missing")
    merged: dict[str, Any] = {}
    for name in ("default", env, "local"):
        _merge(merged, _read(folder / f"{name}.json"))
    _merge(merged, dict(_from_environment(_read(folder / "custom-environment-variables.json"), environ)))
    try:
        config = load(schema(), merged, "Invalid configuration")
    except BadRequest as error:
        raise ConfigError(_problems(error, env)) from None
    published = _check_secret(config, env, folder)
    frozen = {key: _frozen(value) for key, value in config.items()}
    return MappingProxyType({**frozen, "env": env, "publishedSecrets": published})


def _read(file: Path) -> dict[str, Any]:
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold a JSON object")
    return content


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


def _from_environment(names: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of environment variables. ``names`` has the name of each, or ``{"__name", "__format"}``."""
    for key, name in names.items():
        if isinstance(name, dict) and "__name" not in name:
            if nested := dict(_from_environment(name, environ)):
                yield key, nested
            continue
        variable, form = (name["__name"], name.get("__format")) if isinstance(name, dict) else (name, None)
        if environ.get(variable, "") != "":
            yield key, _formatted(variable, environ[variable], form)


def _formatted(variable: str, value: str, form: str | None) -> Any:
    if form is None:
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ConfigError(f"{variable} is '{value}': it must be a {form}") from None


def _problems(error: BadRequest, env: str) -> str:
    listed = "; ".join(f"{key}: {sentence}" for key, sentence in (error.errors or {}).items())
    hint = " (set APEX_SECRET)" if "authentication.secret" in (error.errors or {}) else ""
    return f"Invalid configuration for {env}: {listed}{hint}"


def _check_secret(config: Mapping[str, Any], env: str, folder: Path) -> tuple[str, ...]:
    """Return the names of the secrets that are published in configuration files.

    Raises ConfigError for a bad secret.
    """
    if "authentication" not in config:
        return ()
    layers = [_read(folder / f"{name}.json").get("authentication", {}) for name in ("default", "development", "test")]
    published = [layer.get("secret") for layer in layers]
    found = []
    for name, variable in SECRETS.items():
        secret = config["authentication"].get(name)
        if secret is None:
            continue
        if len(secret.encode()) < SECRET_BYTES:
            raise ConfigError(f"authentication.{name} needs at least {SECRET_BYTES} bytes: set {variable}")
        if secret in published:
            found.append(name)
            if env == "production":
                raise ConfigError(f"authentication.{name} is published in the configuration: set {variable}")
    return tuple(found)


def exposed_secrets(settings: Mapping[str, Any], host: str) -> Iterator[str]:
    """Yield a problem for each published secret if others can reach the host."""
    if not _is_loopback(host):
        for name in settings.get("publishedSecrets", ()):
            yield (
                f"authentication.{name} is published in the configuration, and others reach '{host}': "
                f"set {SECRETS[name]}, or HOST=localhost"
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
