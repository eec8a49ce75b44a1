"""The bridge to marshmallow: one schema class checks what create, update and patch are given.

Feathers' names: ``validate_data`` is validateData, ``validate_query`` is validateQuery.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Set
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import marshmallow
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from marshmallow import RAISE, ValidationError, fields, validate

from apex.accept import DOUBT, acceptor
from apex.context import Context, Params
from apex.describe import describe, facts_of
from apex.encoding import decode, encode
from apex.errors import BadRequest, FeathersError, NotFound
from apex.hooks import Hook, belongs, flat, in_order
from apex.query import Hints, require_few, shortened

__all__ = [
    "Boolean", "Email", "Float", "Id", "Password", "Schema", "Text", "ValidationError", "fields", "load", "validate",
    "validate_data", "validate_query",
]  # fmt: skip

if TYPE_CHECKING:
    from apex.service import BoundService

UNKNOWN = "Unknown field."
MAX_OBJECTS = 20_000
"""The most objects in the data of a call, as each wrong one takes time."""
MISSING: Any = object()

_RESERVED = "|".join(re.escape(name.rpartition(".")[2]) for name in SPECIAL_USE_DOMAIN_NAMES)
PLAIN_EMAIL = re.compile(
    r"(?=.{6,64}\Z)[a-z0-9]+(?:[._+-][a-z0-9]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+"
    rf"(?!(?:{_RESERVED})\Z)[a-z]{{2,}}"
)
"""Addresses that are good as they are, by every rule there is; they need no further look."""

FINITE = "Must be a finite number"

SENTENCES: Mapping[type[fields.Field[Any]], Mapping[str, str]] = {
    fields.Field: {"required": "Is required", "null": "Must not be null", "validator_failed": "Is not allowed"},
    fields.String: {"invalid": "Must be a string", "invalid_utf8": "Must be UTF-8"},
    fields.Boolean: {"invalid": "Must be true or false"},
    fields.Number: {"invalid": "Must be a number", "too_large": FINITE},
    fields.Integer: {"invalid": "Must be an integer", "too_large": "Must be an integer of 64 bits"},
    fields.Float: {"special": FINITE},
    fields.Decimal: {"special": FINITE},
    fields.DateTime: {"invalid": "Must be a date and time such as 2023-01-01T00:00:00.000Z"},
    fields.Date: {"invalid": "Must be a date such as 2023-01-31"},
    fields.UUID: {"invalid_uuid": "Must be a UUID"},
    fields.Enum: {"unknown": "Must be one of: {choices}"},
    fields.List: {"invalid": "Must be a list"},
    fields.Mapping: {"invalid": "Must be an object"},
    fields.Nested: {"type": "Must be an object"},
}
"""What marshmallow's own fields say of values that they do not take, in the words of the others here."""

BOUNDS: Mapping[type[validate.Validator], Mapping[str, str]] = {
    validate.Range: {
        "message_min": "Must be {min_op} {{min}}",
        "message_max": "Must be {max_op} {{max}}",
        "message_all": "Must be {min_op} {{min}} and {max_op} {{max}}",
    },
    validate.Length: {
        "message_min": "Must have a length of at least {{min}}",
        "message_max": "Must have a length of at most {{max}}",
        "message_all": "Must have a length from {{min}} to {{max}}",
        "message_equal": "Must have a length of {{equal}}",
    },
}
"""The same for its validators of bounds."""

Sentence = tuple[str, str]


class Schema(marshmallow.Schema):
    """A marshmallow schema that refuses unknown fields. Fields marked ``dump_only`` are the server's.

    ``create_only`` names the fields that a patch may not change. Every problem is reported at once. ``keywords`` are
    those of JSON Schema that say what validators of the whole check, for documents.
    """

    create_only: ClassVar[tuple[str, ...]] = ()
    keywords: ClassVar[Mapping[str, Any]] = {}
    error_messages = {"type": "Must be an object"}

    class Meta:
        unknown = RAISE

    def load(self, data: Any, *, many: bool | None = None, partial: Any = None, unknown: Any = None) -> Any:
        """What marshmallow gives, without its detours where nothing is wrong with the data."""
        if partial is None and unknown is None:
            if self._nests:  # marshmallow reads lists inside to their end, even if they are wrong.
                self._limit_objects(data)
            loaded = self._accept(data, self.many if many is None else many)
            if loaded is not DOUBT:
                return loaded
        self._limit_objects(data)
        return super().load(data, many=many, partial=partial, unknown=unknown)

    def _init_fields(self) -> None:
        """marshmallow calls it when the fields of this instance are known, and when ``Nested`` has picked some."""
        super()._init_fields()
        for field in self.fields.values():
            _reword(field)
        self._accept = acceptor(self)
        self._nests = any(_nested(field) is not None for field in self.load_fields.values())

    def _limit_objects(self, data: Any) -> None:
        if _objects(self, data, MAX_OBJECTS) < 0:
            raise ValidationError({"_schema": [f"Must not have more than {MAX_OBJECTS} objects"]})


def _reword(field: fields.Field[Any]) -> None:
    """Give a field of a schema, and the fields inside of it, the sentences above, unless it has its own.

    The field is the schema's copy: other schemas in the process keep the messages of marshmallow.
    """
    kind: Any = type(field)
    stock, own = _messages(kind)
    said = {name: text for name, text in field.error_messages.items() if stock.get(name) != text}
    field.error_messages = {**own, **said}
    field.validators = [_reworded(validator) for validator in field.validators]
    inner = getattr(field, "inner", None), getattr(field, "key_field", None), getattr(field, "value_field", None)
    for each in (*inner, *getattr(field, "tuple_fields", ())):
        if each is not None:
            _reword(each)


@cache
def _messages(kind: Any) -> tuple[dict[str, str], dict[str, str]]:
    """Return the messages of a class of fields: those of marshmallow, and those with the sentences above."""
    stock: dict[str, str] = {}
    own: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        said = vars(base).get("default_error_messages", {})
        stock.update(said)
        own.update({**said, **SENTENCES.get(base, {})})
    return stock, own


def _reworded(validator: Any) -> Any:
    if not isinstance(validator, validate.And | validate.OneOf | validate.Range | validate.Length):
        return validator
    validator = copy(validator)
    if isinstance(validator, validate.And):
        validator.validators = tuple(_reworded(each) for each in validator.validators)
    elif isinstance(validator, validate.OneOf):
        if validator.error == validate.OneOf.default_message:
            validator.error = "Must be one of: {choices}"
    else:
        kind = validate.Range if isinstance(validator, validate.Range) else validate.Length
        words = _operators(validator) if isinstance(validator, validate.Range) else {}
        for name, sentence in BOUNDS[kind].items():
            if getattr(type(validator), name) == getattr(kind, name):
                setattr(validator, name, sentence.format(**words))
    return validator


def _operators(range: validate.Range) -> dict[str, str]:
    return {
        "min_op": range.message_gte if range.min_inclusive else range.message_gt,
        "max_op": range.message_lte if range.max_inclusive else range.message_lt,
    }


class Text(fields.String):
    """A string, trimmed, without NUL characters, of at least ``min`` (default 1) and at most ``max`` characters."""

    default_error_messages = {
        "invalid": "Must be a string",
        "nul": "Must not contain NUL characters",
        "min": "Must not be empty",
        "max": "Must have at most {max} characters",
    }

    def __init__(self, *, max: int, min: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.min, self.max = min, max

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
    """An e-mail address by RFC 5321 and 5322, internationalised ones too; whether it can be delivered is not asked."""

    default_error_messages = {"email": "Invalid email format"}

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
    """A password, as it was typed: at least ``min`` characters, and none of the most common passwords."""

    default_error_messages = {
        "length": "Must have a length from {min} to {max}",
        "common": "Is one of the most common passwords",
    }

    def __init__(self, *, min: int = 8, max: int = 1024, **options: Any) -> None:
        super().__init__(**options)
        self.min, self.max = min, max

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        password: str = super()._deserialize(value, attr, data, **kwargs)
        if not self.min <= len(password) <= self.max:
            raise self.make_error("length", min=self.min, max=self.max)
        if password.casefold() in COMMON_PASSWORDS or len(set(password)) == 1:
            raise self.make_error("common")
        return password


class Id(fields.Integer):
    """The id of another record: a whole number of 64 bits above 0, not a string of digits."""

    def __init__(self, **options: Any) -> None:
        known = validate.Range(1, 2**63 - 1, error="Must be the id of a record")
        super().__init__(strict=True, validate=known, **options)


class Boolean(fields.Boolean):
    """True or false, not a number or a word for it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if isinstance(value, bool):
            return value
        raise self.make_error("invalid", input=value)


class Float(fields.Float):
    """A finite number, not a string of digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        number: float = super()._deserialize(value, attr, data, **kwargs)
        return number


Schemas = type[Schema] | Mapping[str, type[Schema]]


def validate_data(schemas: Schemas, message: str = "Invalid data") -> Hook:
    """A before hook: ``context.data`` becomes what the schema makes of it; a patch needs only what it changes.

    One class serves create, update and patch; a mapping names a class for each method, custom ones too. Create alone
    takes a list. A patch or update of one record may hold fields of the server, with the values that are stored.
    Raises BadRequest with ``errors`` mapping each wrong field to one sentence.
    """
    loaders = _loaders(schemas)
    declared = {method: frozenset(schema().fields) for method, schema in _by_method(schemas).items()}

    @belongs("before", "around")
    @describe(data=_by_method(schemas))
    def validate_data(context: Context) -> None:
        loader = loaders.get(context.method)
        if loader is not None:
            if isinstance(context.data, list) and context.method != "create":
                raise _no_object(message)
            try:
                context.data = load(loader, context.data, message)
            except BadRequest as refusal:
                _take_unchanged(context, loader, declared[context.method], message, refusal)

    return validate_data


def _take_unchanged(context: Context, schema: Schema, declared: Set[str], message: str, refusal: BadRequest) -> None:
    """Accept the server's own fields in the data if the record has the same values.

    Clients send a whole record back as they have received it. The values are compared after all hooks and right before
    the method, with the record as ``get`` shows it to the caller. So nothing is read unless such a field is sent, and
    callers learn nothing about hidden fields. Raises the refusal.
    """
    bound, data = context.service, context.data
    one = context.method in ("update", "patch") and context.id is not None and isinstance(data, dict)
    if not one or "get" not in bound._hookable:
        raise refusal
    taken = {field.data_key or name for name, field in schema.load_fields.items()}
    columns = getattr(getattr(bound.service, "syntax", None), "fields", None) or (getattr(bound.service, "id", "id"),)
    emptied = getattr(bound.service, "emptied", None)
    errors = refusal.errors or {}
    owned = (data.keys() - taken) & {*declared, *columns, *_added(bound)}
    # A schema may refuse the null that a record has where nothing was ever given.
    owned |= {name for name in errors if data.get(name, MISSING) is None and (emptied is None or name in emptied)}
    if not owned:
        raise refusal
    try:
        loaded = load(schema, {name: value for name, value in data.items() if name not in owned}, message)
        given = decode(encode({name: data[name] for name in owned}))
    except (BadRequest, TypeError):
        raise refusal from None
    if context.method == "update":
        loaded |= {name: given[name] for name in owned & (declared if emptied is None else emptied)}
    context.data = loaded
    before = context.precondition

    async def compare(method: Callable[[], Awaitable[Any]]) -> Any:
        shown = await _shown(context, refusal)
        changed = [name for name in data if name in owned and shown.get(name, MISSING) != given[name]]
        wrong = {name: errors.get(name, UNKNOWN) for name in changed}
        if wrong:
            raise BadRequest(message, errors=wrong)
        return await (method() if before is None else before(method))

    context.precondition = compare


def _added(bound: BoundService) -> Iterator[str]:
    """Yield the fields that hooks declare to add to the result of ``get``."""
    for _, _, hook in in_order(bound._app.store, bound._store, "get"):
        for one in flat(hook, omit="else"):
            if (facts := facts_of(one)) is not None:
                yield from facts.adds


async def _shown(context: Context, refusal: BadRequest) -> dict[str, Any]:
    """Return the record as ``get`` shows it to the caller, in its JSON form. Raises NotFound or the refusal."""
    params = {name: value for name, value in context.params.items() if name != "adapter"}
    query = {name: value for name, value in context.params.query.items() if name != "$select"}
    try:
        shown = await context.service._serve("get", context.id, None, Params({**params, "query": query}))
    except NotFound:
        raise
    except FeathersError:
        raise refusal from None
    record = decode(encode(shown.external))
    return record if isinstance(record, dict) else {}


@belongs("before", "around")
def validate_query(context: Context) -> None:
    """A before hook: id and ``params.query`` get their types, or a 404 or 400 is raised before any work is done."""
    service = context.service.service
    if context.id is not None:
        context.id = service.typed_id(context.id)
    query = service.syntax.parse(context.params.query)
    context.params.query = query if context.method == "find" else query.plain()


def load(schema: Schema, data: Any, message: str) -> Any:
    """Return the data as the schema makes it. Raises BadRequest naming the fields that are wrong."""
    if not isinstance(data, dict | list):
        raise _no_object(message)
    if schema.unknown == RAISE:
        for row in data if isinstance(data, list) else (data,):
            if isinstance(row, dict):
                require_few(row, schema.load_fields, message)
    try:
        return schema.load(data, many=isinstance(data, list))
    except ValidationError as error:
        errors = dict(_sentences(schema, error.messages, Hints()))
        raise BadRequest(message, errors=errors) from None


def _objects(schema: marshmallow.Schema, data: Any, left: int) -> int:
    """Return ``left`` less the number of objects in the data, or less than 0 if the data has more.

    Only objects that the schema reads are counted.
    """
    for row in data if isinstance(data, list) else (data,):
        left -= 1
        if left < 0:
            break
        if isinstance(row, dict):
            for key, field in schema.load_fields.items():
                if (inner := _nested(field)) is not None:
                    left = _objects(inner.schema, row.get(field.data_key or key, []), left)
    return left


def _nested(field: fields.Field[Any] | None) -> fields.Nested | None:
    """Return the nested field that a field is, or that its list holds."""
    if isinstance(field, fields.List):
        field = field.inner
    return field if isinstance(field, fields.Nested) else None


def _no_object(message: str) -> BadRequest:
    return BadRequest(f"{message}: the body must be a JSON object")


def _loaders(schemas: Schemas) -> dict[str, Schema]:
    return {method: _variant(schema, method) for method, schema in _by_method(schemas).items()}


def _by_method(schemas: Schemas) -> Mapping[str, type[Schema]]:
    return schemas if isinstance(schemas, Mapping) else dict.fromkeys(("create", "update", "patch"), schemas)


def _variant(schema: type[Schema], method: str) -> Schema:
    """For a patch each field may be left out, but none inside of one: what is given replaces what was there."""
    if method != "patch":
        return schema()
    return schema(partial=tuple(schema().fields), exclude=schema.create_only)


def _sentences(schema: marshmallow.Schema | None, messages: Any, hints: Hints, path: str = "") -> Iterator[Sentence]:
    """The path of each wrong field with what is wrong; marshmallow nests them."""
    for key, nested in messages.items():
        transparent = key == "_schema" or (schema is None and key in ("key", "value"))
        own = shortened(str(key))
        name = (path or "data") if transparent else f"{path}.{own}" if path else own
        if isinstance(nested, Mapping):
            yield from _sentences(_inside(schema, key), nested, hints, name)
        else:
            yield name, _hint(schema, key, " ".join(map(str, nested)), hints)


def _inside(schema: marshmallow.Schema | None, key: Any) -> marshmallow.Schema | None:
    """The schema of what a field holds; a place in a list has that of the list."""
    if isinstance(key, int) or schema is None:
        return schema
    nested = _nested(schema.fields.get(key))
    return None if nested is None else nested.schema


def _hint(schema: marshmallow.Schema | None, name: str, sentence: str, hints: Hints) -> str:
    if sentence != UNKNOWN or schema is None:
        return sentence
    if name in getattr(schema, "create_only", ()):
        return "Can only be set on create"
    if name in schema.dump_fields and name not in schema.load_fields:
        return "Is set by the server: leave it out"
    return UNKNOWN + hints.suggestion(name, schema.load_fields)
