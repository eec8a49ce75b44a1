"""The setting ``log``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apex.errors import BadRequest, ConfigError
from apex.schema.validation import Schema, fields, load, validate


class LogOptions(Schema):
    """The setting ``log`` in a configuration."""

    days = fields.Float(allow_none=True, validate=validate.Range(min=0, min_inclusive=False))
    rows = fields.Integer(strict=True, allow_none=True, validate=validate.Range(min=1))
    replay = fields.Integer(strict=True, validate=validate.Range(min=1))


@dataclass(frozen=True, slots=True)
class Settings:
    """The setting ``log``.

    ``days`` is the age at which entries are deleted, and ``rows`` the most entries that are kept. None means no limit.
    ``replay`` is the most entries that a client gets after a reconnection.
    """

    days: float | None = 7
    rows: int | None = None
    replay: int = 10_000

    @classmethod
    def of(cls, given: Any) -> Settings:
        """Return the setting of an app. Raises ConfigError, which names the keys that are wrong."""
        try:
            return cls(**load(LogOptions(), {} if given is None else dict(given), "Invalid setting"))
        except BadRequest as error:
            wrong = "; ".join(f"log.{name}: {sentence}" for name, sentence in (error.errors or {}).items())
            raise ConfigError(f"The setting log is wrong: {wrong}") from None
        except (TypeError, ValueError):
            raise ConfigError('The setting log must be an object such as {"days": 7}') from None
