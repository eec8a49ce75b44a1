"""Fields of schemas: strict numbers and booleans, texts with bounds, e-mail addresses and passwords.

Their names end in ``Field``, so that a module can import them together with the column types of SQLAlchemy.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import Any

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from marshmallow import fields, validate

from apex.query import coercion as coerce

_RESERVED = "|".join(re.escape(name.rpartition(".")[2]) for name in SPECIAL_USE_DOMAIN_NAMES)
PLAIN_EMAIL = re.compile(
    r"(?=.{6,64}\Z)[a-z0-9]+(?:[._+-][a-z0-9]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+"
    rf"(?!(?:{_RESERVED})\Z)[a-z]{{2,}}"
)
"""Addresses that are certainly valid, and need no further check."""


class TextField(fields.String):
    """A string of at least ``min`` and at most ``max`` characters, without NUL characters. It is trimmed.

    Without ``max``, only the size of the body limits it.
    """

    default_error_messages: dict[str, str | list[Any] | dict[Any, Any]] = {
        "invalid": "Must be a string",
        "nul": "Must not contain NUL characters",
        "empty": "Must not be empty",
        "min": "Must have at least {min} characters",
        "max": "Must have at most {max} characters",
    }

    def __init__(self, *, max: int | None = None, min: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.min: int = min
        self.max: int | None = max

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).strip()
        if "\0" in text:
            raise self.make_error("nul")
        if len(text) < self.min:
            raise self.make_error("min" if text and self.min > 1 else "empty", min=self.min)
        if self.max is not None and len(text) > self.max:
            raise self.make_error("max", max=self.max)
        return text


class EmailField(TextField):
    """An e-mail address (RFC 5321 and 5322), which may be internationalised. Nobody checks if it can be delivered."""

    default_error_messages: dict[str, str | list[Any] | dict[Any, Any]] = {"email": "Invalid email format"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        if PLAIN_EMAIL.fullmatch(text):
            return text
        try:
            return validate_email(text, check_deliverability=False).normalized
        except EmailNotValidError:
            raise self.make_error("email") from None


_COMMON = """
0123456789 01234567 0987654321 1029384756 11223344 1122334455 112233445566 12121212 1212121212 123123123 12341234
1234512345 12345678 123456789 1234567890 123456789a 123456789q 12345678910 1234567891 123456abc 12345abc 12345qwert
1234abcd 1234qwer 123654789 123qweasd 123qwe123 147258369 1q2w3e4r 1q2w3e4r5t 1qaz2wsx 1qazxsw2 20202020 23456789
31415926 3141592654 741852963 78945612 789456123 87654321 9876543210 987654321 a1b2c3d4 a1234567 a12345678 a123456789
aa123456 aa12345678 abc12345 abc123456 abcd1234 abcdefgh access14 adminadmin admin123 admin1234 administrator
alexander americas asdasdasd asdf1234 asdfasdf asdfghjk asdfghjkl baseball basketball benjamin bigdaddy blink182
butterfly caroline carolina changeme changeme123 charlotte cheyenne chocolate christin christina christine christopher
computer corvette courtney creative daniel123 danielle december default1 dolphins dragon123 einstein elephant
elizabeth fernando football freedom1 garfield guest123 hardcore hello123 helloworld hercules honeybee iloveyou
iloveyou1 iloveyou2 infinity internet jennifer jonathan jordan23 justin123 kingkong kristina lavender letmein1
letmein123 liverpool lovelove loveyou1 manchester marlboro master123 maverick mercedes metallica michael1 michelle
midnight monkey123 mountain mustang1 newpassword nicholas nintendo november p455w0rd p@ssw0rd p@ssword pa55word
pa$$w0rd passw0rd passw0rd1 password password! password01 password1 password1! password12 password123 password1234
password2 password3 passwort patricia playboy1 pokemon1 precious princess princess1 q1w2e3r4 q1w2e3r4t5 qazwsxed
qazwsxedc qwaszx12 qwer1234 qwerasdf qwert123 qwert12345 qwerty12 qwerty123 qwerty1234 qwerty12345 qwertyui qwertyuiop
qwertyuiop123 richard1 samantha santiago scorpion secret123 security september skywalker slipknot snowball starwars
stephanie steelers summer2023 summer2024 summer2025 sunshine sunshine1 superman superstar swordfish test1234 testtest
tigger123 trustno1 undertaker valentin valentina vanessa1 veronica victoria warcraft welcome1 welcome123 whatever
william1 winter2024 winter2025 xxxxxxxx yankees1 zaq12wsx zaq1zaq1 zxcvbnm1 zxcvbnm123 zxcvbnmasdfghjkl
"""
COMMON_PASSWORDS = frozenset(_COMMON.split())
"""Passwords of at least eight characters from public lists of the most common ones."""


class PasswordField(fields.String):
    """A password of at least ``min`` and at most ``max`` characters. It is not trimmed, and not a common password."""

    default_error_messages: dict[str, str | list[Any] | dict[Any, Any]] = {
        "length": "Must have a length from {min} to {max}",
        "common": "Is one of the most common passwords",
    }

    def __init__(self, *, min: int = 8, max: int = 1024, **options: Any) -> None:
        super().__init__(**options)
        self.min: int = min
        self.max: int = max

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        password: str = super()._deserialize(value, attr, data, **kwargs)
        if not self.min <= len(password) <= self.max:
            raise self.make_error("length", min=self.min, max=self.max)
        if password.casefold() in COMMON_PASSWORDS or len(set(password)) == 1:
            raise self.make_error("common")
        return password


INTEGER_MAX: int = 2**63 - 1
"""The largest whole number that databases store."""

_WIDE = Context(prec=2_000)
"""Enough digits for every number that ``apex.query.coercion.decimal`` takes."""


def _limits(min: Decimal | int | None, max: Decimal | int | None) -> list[validate.Range]:
    """Return the validators that a number is not below ``min`` or above ``max``."""
    if min is None and max is None:
        return []
    rule = f"at least {min}" if max is None else f"at most {max}" if min is None else f"from {min} to {max}"
    return [validate.Range(min, max, error=f"Must be {rule}")]


class IntegerField(fields.Integer):
    """A whole number from ``min`` to ``max``, at most 64 bits. A string of digits is refused."""

    def __init__(self, *, min: int | None = None, max: int | None = None, **options: Any) -> None:
        super().__init__(strict=True, **options)
        self.validators = [*_limits(min, max), *self.validators]

    def _validated(self, value: Any) -> int:
        number: int = super()._validated(value)
        if not -INTEGER_MAX - 1 <= number <= INTEGER_MAX:
            raise self.make_error("too_large", input=value)
        return number


class IdField(fields.Integer):
    """The id of another record: a whole number from 1 to ``max``. A string of digits is refused."""

    def __init__(self, *, max: int = INTEGER_MAX, **options: Any) -> None:
        super().__init__(strict=True, **options)
        self.validators = [validate.Range(1, max, error="Must be the id of a record"), *self.validators]


class BooleanField(fields.Boolean):
    """True or false. A number or a word for it is refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise self.make_error("invalid", input=value)


class FloatField(fields.Float):
    """A finite number. A string of digits is refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        number: float = super()._deserialize(value, attr, data, **kwargs)
        return number


class DecimalField(fields.Decimal):
    """A decimal number from ``min`` to ``max`` with at most ``places`` after the point, as a string or a number.

    Each limit that is None is left out::

        price = DecimalField(places=2, min=0)
    """

    default_error_messages: dict[str, str | list[Any] | dict[Any, Any]] = {
        "invalid": "Must be a decimal number",
        "places": "Must have at most {places} decimal places",
    }

    def __init__(
        self,
        *,
        places: int | None = None,
        min: Decimal | int | None = None,
        max: Decimal | int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(as_string=True, **options)
        self.most_places: int | None = places
        self.validators = [*_limits(min, max), *self.validators]

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        try:
            number = coerce.decimal(value)
        except ValueError:
            raise self.make_error("invalid", input=value) from None
        if self.most_places is not None and _places_of(number) > self.most_places:
            raise self.make_error("places", places=self.most_places)
        return number


def _places_of(number: Decimal) -> int:
    """Return the number of digits after the point, without zeros at the end."""
    exponent = number.normalize(_WIDE).as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


# The former names.
Boolean = BooleanField
Email = EmailField
Float = FloatField
Id = IdField
Password = PasswordField
Text = TextField
