"""Fields of schemas: strict numbers and booleans, texts with bounds, e-mail addresses and passwords."""

from __future__ import annotations

import re
from typing import Any

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from marshmallow import fields, validate

_RESERVED = "|".join(re.escape(name.rpartition(".")[2]) for name in SPECIAL_USE_DOMAIN_NAMES)
PLAIN_EMAIL = re.compile(
    r"(?=.{6,64}\Z)[a-z0-9]+(?:[._+-][a-z0-9]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+"
    rf"(?!(?:{_RESERVED})\Z)[a-z]{{2,}}"
)
"""Addresses that are certainly valid, and need no further check."""


class Text(fields.String):
    """A string of at least ``min`` and at most ``max`` characters, without NUL characters. It is trimmed."""

    default_error_messages: dict[str, str | list[Any] | dict[Any, Any]] = {
        "invalid": "Must be a string",
        "nul": "Must not contain NUL characters",
        "min": "Must not be empty",
        "max": "Must have at most {max} characters",
    }

    def __init__(self, *, max: int, min: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.min: int = min
        self.max: int = max

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs).strip()
        if "\0" in text:
            raise self.make_error("nul")
        if len(text) < self.min:
            raise self.make_error("min")
        if len(text) > self.max:
            raise self.make_error("max", max=self.max)
        return text


class Email(Text):
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


class Password(fields.String):
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


class Id(fields.Integer):
    """The id of another record: a whole number of 64 bits above 0. A string of digits is refused."""

    def __init__(self, **options: Any) -> None:
        known = validate.Range(1, 2**63 - 1, error="Must be the id of a record")
        super().__init__(strict=True, validate=known, **options)


class Boolean(fields.Boolean):
    """True or false. A number or a word for it is refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise self.make_error("invalid", input=value)


class Float(fields.Float):
    """A finite number. A string of digits is refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        number: float = super()._deserialize(value, attr, data, **kwargs)
        return number
