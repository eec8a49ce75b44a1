"""The fields of ``apex generate service``: words such as ``title:string!`` and the columns that they describe.

A word is ``name:type``. Then come ``!`` for a required field, ``:unique`` or ``:index``, and ``=`` with a default::

    title:string(80)! code:string!:unique 'status:enum(open,closed)=open' project:belongs_to! labels:many_to_many
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from apex.errors import ConfigError
from apex.migrations.source import call, literal
from apex.query import coercion as coerce
from apex.query.language import suggestion

WORD: re.Pattern[str] = re.compile(
    r"(?P<name>[^:=()]*):(?P<kind>\w*)(?:\((?P<arguments>[^()]*)\))?(?P<required>!?)(?P<flags>(?::\w*)*)"
    r"(?:=(?P<default>.*))?",
    re.DOTALL,
)
NAME: re.Pattern[str] = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LABEL: re.Pattern[str] = re.compile(r"[A-Za-z0-9][\w .-]{0,39}", re.ASCII)
LONGEST_NAME: int = 40
LONGEST_STRING: int = 10_000
MOST_PLACES: int = 12
MOST_FIELDS: int = 100
FORM: str = "write name:type, such as title:string! or 'status:enum(open,closed)=open'"
OWN: tuple[str, ...] = ("id", "user_id", "created_at")
"""The columns that every generated table has."""
TENANT: str = "organization_id"
"""The column with the tenant of a record, in a project with tenants."""
UNIQUE: str = "unique=True"
FLAGS: tuple[str, ...] = ("unique", "index")
RELATIONS: tuple[str, ...] = ("belongs_to", "many_to_many")
KINDS: tuple[str, ...] = (
    "string", "text", "integer", "decimal", "float", "boolean", "date", "datetime", "time", "uuid", "json", "email",
    "enum", *RELATIONS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A field as a word of the command line describes it."""

    word: str
    name: str
    kind: str
    arguments: tuple[str, ...]
    is_required: bool
    flag: str | None
    default: str | None

    def refuse(self, rule: str) -> NoReturn:
        """Raise ConfigError with the word and the rule that it breaks."""
        raise ConfigError(f"'{self.word}': {rule}")


@dataclass(frozen=True, slots=True)
class ColumnSource:
    """The source of a column, for the table and for its migration."""

    name: str
    type: str
    module: str = "sqlalchemy"
    """The module of the type."""
    key: str | None = None
    """The column that a foreign key refers to, such as ``projects.id``."""
    cascades: bool = False
    options: Sequence[str] = ()
    default: str | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    """The modules of the names in the default, by name."""
    value: Any = None
    """A value in JSON, for tests."""
    wrong: Any = None
    """A value that the column refuses, for tests."""

    def of_table(self) -> str:
        """Return the column of the table."""
        default = [] if self.default is None else [f"default={self.default}"]
        return call("Column", [literal(self.name), self.type, *self._key("ForeignKey"), *self.options, *default])

    def of_migration(self) -> str:
        """Return the column of the migration. Defaults of Python are not part of the database."""
        made = self.type if "(" in self.type or self.type == "Json" else f"{self.type}()"
        made = f"sa.{made}" if self.module == "sqlalchemy" else made
        return call("sa.Column", [literal(self.name), made, *self._key("sa.ForeignKey"), *self.options])

    def _key(self, function: str) -> list[str]:
        if self.key is None:
            return []
        return [call(function, [literal(self.key), *(['ondelete="CASCADE"'] if self.cascades else [])])]


def parse(words: Sequence[str], own: Sequence[str] = OWN) -> list[Field]:
    """Return the fields that words describe. ``own`` are the columns that the service has anyway.

    Raises ConfigError, which names the word, the rule and the fix.
    """
    if len(words) > MOST_FIELDS:
        raise ConfigError(f"a service takes at most {MOST_FIELDS} fields here, not {len(words)}: add others by hand")
    fields: dict[str, Field] = {}
    for word in words:
        parsed = _parsed(word)
        names = {parsed.name, f"{parsed.name}_id"} if parsed.kind == "belongs_to" else {parsed.name}
        for name in names & fields.keys():
            parsed.refuse(f"'{fields[name].word}' has the name '{name}' already: choose another one")
        for name in names.intersection(own):
            parsed.refuse(f"every service has the field '{name}' already: leave it out")
        fields |= dict.fromkeys(names, parsed)
    return list(dict.fromkeys(fields.values()))


def _parsed(word: str) -> Field:
    shown = word if len(word) <= 80 else f"{word[:80]}..."
    match = WORD.fullmatch(word)
    if match is None:
        raise ConfigError(f"'{shown}' is no field: {FORM}")
    name, kind, flags = match["name"], match["kind"], match["flags"].split(":")[1:]
    arguments = () if match["arguments"] is None else tuple(one.strip() for one in match["arguments"].split(","))
    made = Field(shown, name, kind, arguments, bool(match["required"]), next(iter(flags), None), match["default"])
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        made.refuse(f"use small letters, digits and '_' for the name, at most {LONGEST_NAME}, beginning with a letter")
    if keyword.iskeyword(name):
        made.refuse(f"'{name}' is a word of Python: choose another name")
    if kind == "has_many":
        made.refuse(
            f"generate the other service with a belongs_to to this one, and then add "
            f"'{name}': has_many(...) to the relations of this one"
        )
    if kind not in KINDS:
        made.refuse(f"there is no type '{kind}'.{suggestion(kind, KINDS)} The types are {', '.join(KINDS)}")
    if len(flags) > 1 or not set(flags) <= {*FLAGS}:
        made.refuse("after the type may come :unique or :index, one of them: a unique field has an index")
    if made.flag and kind in ("text", "json"):
        made.refuse(f"a {kind} of any length fits into no index: use string, or leave out ':{made.flag}'")
    if kind == "many_to_many" and (made.is_required or flags or made.default is not None):
        made.refuse("many_to_many has a table of its own, so it takes neither '!' nor flags nor a default")
    if kind == "belongs_to" and made.default is not None:
        made.refuse("belongs_to has no default here: write it into the column")
    if made.is_required and made.default is not None:
        made.refuse("a field with a default is never missing: leave out '!' or the default")
    return made


def column_of(given: Field) -> ColumnSource:
    """Return the column of a field that is no relation. Raises ConfigError for wrong arguments and defaults."""
    type_, module, value, wrong = _type_of(given)
    default, needs = ("", {}) if given.default is None else _default_of(given)
    return ColumnSource(
        given.name, type_, module, options=options_of(given), default=default or None, needs=needs, value=value,
        wrong=None if default == '""' else wrong,
    )  # fmt: skip


def options_of(given: Field) -> list[str]:
    """Return the options of a field's column."""
    is_filled = given.is_required or given.default is not None
    return [*(["nullable=False"] if is_filled else []), *([f"{given.flag}=True"] if given.flag else [])]


def _type_of(given: Field) -> tuple[str, str, Any, Any]:
    """Return the type of a column, its module, a value in JSON, and one that the column refuses."""
    if given.kind not in ("string", "decimal", "enum") and given.arguments:
        given.refuse(f"{given.kind} takes nothing in brackets: leave out '({','.join(given.arguments)})'")
    match given.kind:
        case "string":
            length = _number(given, "length", 1, LONGEST_STRING, 200)
            return f"String({length})", "sqlalchemy", "Some text"[:length], ""
        case "text":
            return "Text", "sqlalchemy", "Some text", ""
        case "integer":
            return "Integer", "sqlalchemy", 1, "one"
        case "decimal":
            places = _number(given, "number of places", 0, MOST_PLACES, 2)
            return f"Fixed({places})", "apex.sql", str(Decimal("1.5").quantize(Decimal(1).scaleb(-places))), "one"
        case "float":
            return "Float", "sqlalchemy", 1.5, "one"
        case "boolean":
            return "Boolean", "sqlalchemy", True, "yes"
        case "date":
            return "Date", "sqlalchemy", "2026-01-31", "soon"
        case "datetime":
            return "Timestamp", "apex.sql", "2026-01-31T12:00:00.000Z", "soon"
        case "time":
            return "Time", "sqlalchemy", "14:30:00", "soon"
        case "uuid":
            return "Uuid", "sqlalchemy", "0b8e0b1c-6a5e-4f0e-9d43-5f1f6d1c2a3b", "one"
        case "json":
            return "Json", "apex.sql", {"key": "value"}, None
        case "email":
            return "String(254)", "sqlalchemy", "someone@example.com", "nowhere"
        case _:
            return _enum(given), "sqlalchemy", given.arguments[0], "another"


def _enum(given: Field) -> str:
    labels = given.arguments
    if not labels or "" in labels:
        given.refuse("an enum takes its values in brackets: quote it as in 'status:enum(open,closed)'")
    for label in labels:
        if not LABEL.fullmatch(label):
            given.refuse(f"'{label}' cannot be a value: use at most 40 letters, digits, '_', '-', '.' and spaces")
    if len(set(labels)) < len(labels):
        given.refuse("a value occurs twice: name each once")
    return call("Enum", [*map(literal, labels), "native_enum=False", f"length={LONGEST_NAME}"])


def _number(given: Field, what: str, least: int, most: int, usual: int) -> int:
    """Return the one number in brackets, or the usual one."""
    if not given.arguments:
        return usual
    text = given.arguments[0]
    if len(given.arguments) > 1 or not re.fullmatch(r"[0-9]{1,6}", text) or not least <= int(text) <= most:
        given.refuse(f"{given.kind} takes one {what} from {least} to {most}, such as {given.kind}({usual})")
    return int(text)


def _default_of(given: Field) -> tuple[str, dict[str, str]]:
    """Return the source of a default, with the modules of the names in it."""
    text = given.default or ""
    try:
        match given.kind:
            case "string" | "text":
                if given.kind == "string" and len(text) > _number(given, "length", 1, LONGEST_STRING, 200):
                    raise ValueError("must fit into the length")
                if not text.isprintable() or text != text.strip():
                    raise ValueError("must be one line without spaces around it")
                return literal(text), {}
            case "integer":
                return str(coerce.small_integer(text)), {}
            case "decimal":
                number = coerce.decimal(text)
                places = _number(given, "number of places", 0, MOST_PLACES, 2)
                if abs(number) >= 10**6 or number != number.quantize(Decimal(1).scaleb(-places)):
                    raise ValueError(f"must be a number below a million with at most {places} decimal places")
                return call("Decimal", [literal(f"{number:f}")]), {"Decimal": "decimal"}
            case "float":
                return str(float(coerce.number(text))), {}
            case "boolean":
                return str({"true": True, "false": False}[text]), {}
            case "enum":
                if text not in given.arguments:
                    raise ValueError(f"must be one of: {', '.join(given.arguments)}")
                return literal(text), {}
            case "datetime" if text == "now":
                return "now", {"now": "apex.common"}
            case "json" if text in ("{}", "[]"):
                return "dict" if text == "{}" else "list", {}
            case _:
                pass
    except KeyError:
        given.refuse("its default must be true or false")
    except ValueError as error:
        given.refuse(f"its default {error}")
    usual = {"datetime": "now", "json": "{} or []"}.get(given.kind)
    given.refuse(
        f"{given.kind} has no default but {usual} here: write others into the column"
        if usual
        else f"{given.kind} has no default here: write it into the column"
    )
