"""Schemas of marshmallow that check the data of create, update and patch.

Feathers' names: ``validate_data`` is validateData, ``validate_query`` is validateQuery.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Set
from copy import copy
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import marshmallow
from marshmallow import RAISE, ValidationError, fields, validate, validates_schema
from marshmallow.decorators import VALIDATES_SCHEMA
from marshmallow.error_store import ErrorStore

from apex.context import Context, Params
from apex.describe import describe, facts_of, hooks_in
from apex.encoding import decode, encode, merge
from apex.errors import BadRequest, FeathersError, NotFound
from apex.hooks import Hook, belongs
from apex.query.language import Hints, require_few, shortened
from apex.relations.data import problems, put_back, require_form, take_related
from apex.schema.fast_path import NOT_LOADED, fast_load
from apex.schema.fields import (
    Boolean,
    BooleanField,
    DecimalField,
    Email,
    EmailField,
    Float,
    FloatField,
    Id,
    IdField,
    IntegerField,
    Password,
    PasswordField,
    Text,
    TextField,
)  # fmt: skip
from apex.service import Call
from apex.transaction import transaction_of
from apex.types import WRITES, items

__all__ = [
    "Boolean", "BooleanField", "DecimalField", "Email", "EmailField", "Float", "FloatField", "Id", "IdField",
    "IntegerField", "Password", "PasswordField", "Schema", "Text", "TextField", "ValidationError", "check_rules",
    "fields", "load", "loader", "validate", "validate_data", "validate_query", "validates_schema",
]  # fmt: skip

if TYPE_CHECKING:
    from apex.service import BoundService

UNKNOWN = "Unknown field."
MAX_OBJECTS = 20_000
"""The most objects in the data of a call. Each wrong object takes time."""
MISSING: Any = object()

FINITE = "Must be a finite number"

MESSAGES: Mapping[type[fields.Field[Any]], Mapping[str, str]] = {
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
"""The error messages for marshmallow's own fields, in the words of the fields of apex."""

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
"""The error messages for marshmallow's validators of bounds."""

Sentence = tuple[str, str]


class Schema(marshmallow.Schema):
    """A schema of marshmallow that refuses unknown fields, and reports all errors at once::

        class Note(Schema):
            text = TextField(required=True, max=500)

    Only the server writes fields that are ``dump_only``.
    """

    create_only: ClassVar[tuple[str, ...]] = ()
    """The fields that a patch may not change."""
    empty_is_null: ClassVar[bool] = False
    """True if an empty string, as forms send it, means null in optional fields that may be null."""
    keywords: ClassVar[Mapping[str, Any]] = {}
    """Keywords of JSON Schema that describe the rules across fields, for OpenAPI."""
    error_messages: dict[str, str] = {"type": "Must be an object"}

    class Meta:
        unknown = RAISE

    def load(self, data: Any, *, many: bool | None = None, partial: Any = None, unknown: Any = None) -> Any:
        """Return the data as marshmallow loads it. Raises ValidationError. Data without errors takes a fast path."""
        if self.nullable:
            data = self._with_nulls(data)
        if partial is None and unknown is None:
            if self._nests:  # marshmallow reads inner lists to their end, even if they have errors.
                self._limit_objects(data)
            loaded = self._load_fast(data, self.many if many is None else many)
            if loaded is not NOT_LOADED:
                return loaded
        self._limit_objects(data)
        return super().load(data, many=many, partial=partial, unknown=unknown)

    def _init_fields(self) -> None:
        """Prepare the fields. marshmallow calls this once it knows them, and again after ``Nested`` has chosen some."""
        super()._init_fields()
        for field in self.fields.values():
            _reword(field)
        self._load_fast = fast_load(self)
        self.nullable: frozenset[str] = frozenset(
            field.data_key or name
            for name, field in self.load_fields.items()
            if self.empty_is_null and field.allow_none and not field.required
        )
        self._nests = any(_nested(field) is not None for field in self.load_fields.values())

    def _with_nulls(self, data: Any) -> Any:
        if isinstance(data, list):
            return [self._with_nulls(row) for row in data]
        if not isinstance(data, dict) or "" not in data.values():
            return data
        return {name: None if value == "" and name in self.nullable else value for name, value in data.items()}

    def _keep_rules(self, sent: bool) -> None:
        """Keep only the rules across fields that check the sent data (``pass_original``), or only the others."""
        rules = [rule for rule in self._hooks[VALIDATES_SCHEMA] if bool(rule[2].get("pass_original")) == sent]
        self._hooks = {**self._hooks, VALIDATES_SCHEMA: rules}
        self._load_fast = fast_load(self)

    def _limit_objects(self, data: Any) -> None:
        if _objects(self, data, MAX_OBJECTS) < 0:
            raise ValidationError({"_schema": [f"Must not have more than {MAX_OBJECTS} objects"]})


def _reword(field: fields.Field[Any]) -> None:
    """Give a field of a schema, and its inner fields, the messages above, unless it has its own.

    The field is a copy of the schema, so other schemas in the process keep the messages of marshmallow.
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
    """Return the messages of a class of fields, first those of marshmallow, then with the messages above."""
    stock: dict[str, str] = {}
    own: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        said = vars(base).get("default_error_messages", {})
        stock.update(said)
        own.update({**said, **MESSAGES.get(base, {})})
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


Schemas = type[Schema] | Mapping[str, type[Schema]]


def validate_data(schemas: Schemas, message: str = "Invalid data") -> Hook:
    """Return a before hook that loads ``context.data`` with a schema::

        app.service("notes").hooks({"before": {"create": [validate_data(Note)]}})

    One schema serves create, update and patch. A mapping has a schema for each method, also for custom methods. A patch
    needs only the fields that it changes. Only create takes a list. An update or patch of one record may have fields of
    the server, if their values are those of the record. Rules across fields (``validates_schema``) are checked as
    ``check_rules`` does. The hook raises BadRequest, whose ``errors`` have a sentence for each wrong field.
    """
    loaders = _loaders(schemas)
    rules = _rules(schemas, message)
    declared = {method: frozenset(_built(schema).fields) for method, schema in _by_method(schemas).items()}

    @belongs("before", "around")
    @describe(data=_by_method(schemas))
    def validate_data(context: Context) -> None:
        schema = loaders.get(context.method)
        if schema is not None:
            if isinstance(context.data, list) and context.method != "create":
                raise _no_object(message)
            later = rules.get(context.method)
            if later is not None and later.can_read(context):
                schema = later.loader
            else:
                later = None
            related = take_related(context, getattr(context.service.service, "writable", ()))
            try:
                context.data = load(schema, context.data, message, partial=_created_keys(context, related))
            except BadRequest as refusal:
                if related is not None:
                    refusal.errors = {**(refusal.errors or {}), **dict(problems(context, related))} or None
                _take_unchanged(context, schema, declared[context.method], message, refusal)
            if later is not None:
                later.defer(context)
            if related is not None:
                require_form(context, related, message)
                put_back(context, related)

    return validate_data


def _created_keys(context: Context, related: list[dict[str, Any]] | None) -> tuple[str, ...] | None:
    """Return the keys that the data may leave out, as it has the records that they refer to. None, if it has none."""
    if related is None or context.method != "create":
        return None
    relations = context.service.service.relations
    given = {relations[name].key for one in related for name in one if relations[name].kind == "belongs_to"}
    return tuple(given) or None


def check_rules(schemas: Schemas, message: str = "Invalid data") -> Hook:
    """Return a before hook that checks the rules across fields before update and patch, for the record as it will be.

    ``validate_data`` does this too. Use this hook if a ``loader`` has loaded the data already. The record is read with
    a lock after all hooks, right before the method and in the same transaction. The hook does not check rules with
    ``pass_original``, because the loader has checked them. It raises BadRequest, whose ``errors`` have a sentence for
    each wrong field.
    """
    rules = _rules(schemas, message)

    @belongs("before", "around")
    def check_rules(context: Context) -> None:
        later = rules.get(context.method)
        if later is not None and later.can_read(context):
            later.defer(context)

    return check_rules


def _zoned(value: Any) -> Any:
    """Return a moment with a time zone, so that it can be compared. One without a zone is in UTC."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


class _Rules:
    """The rules across fields of a schema, for the records that an update or patch changes."""

    def __init__(self, schema: type[Schema], method: str, message: str) -> None:
        self.loader, self.schema, self.message = loader(schema, method), _built(schema, sent=False), message
        self.fields = {field.attribute or name: field for name, field in self.schema.load_fields.items()}

    def can_read(self, context: Context) -> bool:
        """Return True if the service has the method that reads the records."""
        return callable(getattr(context.service.service, "find" if context.id is None else "get", None))

    def defer(self, context: Context) -> None:
        """Check the rules right before the method."""
        before = context.around_method

        async def change(method: Callable[[], Awaitable[Any]]) -> Any:
            async def checked() -> Any:
                async with transaction_of(context.app, context.service.service):
                    self._check(context, await self._read(context))
                    return await method()

            return await (checked() if before is None else before(checked))

        context.around_method = change

    async def _read(self, context: Context) -> list[dict[str, Any]]:
        service, params = context.service.service, context.params
        if (read := getattr(service, "read_for_change", None)) is not None:
            rows: list[dict[str, Any]] = await read(context.id, params, self.fields)
            return rows
        inner = Params({**params, "paginate": False, "adapter": {**(params.adapter or {}), "lock": True}})
        if context.id is not None:
            return [await service.get(context.id, inner)]
        return items("find", await service.find(inner))

    def _check(self, context: Context, rows: list[dict[str, Any]]) -> None:
        """Raise BadRequest for the first record that breaks a rule.

        A record that broke a rule before may go on breaking it if the field of the error keeps its value. It may be
        older than the rule.
        """
        for row in rows:
            record = self._changed(context, row)
            errors = self._errors(record)
            if errors:
                known = self._loaded(row)
                old = self._errors(known)
                for name in [name for name in errors if errors[name] == old.get(name)]:
                    if record.get(name) == known.get(name):
                        del errors[name]
            if errors:
                raise BadRequest(self.message, errors=errors)

    def _changed(self, context: Context, row: dict[str, Any]) -> dict[str, Any]:
        """Return a record as it will be, in the form that ``load`` gives it."""
        service, data = context.service.service, context.data
        emptied = getattr(service, "emptied", None)
        if context.method == "update":
            kept = {*getattr(service, "kept", ()), getattr(service, "id", "id")}
            row = {name: row[name] for name in row if (name in kept if emptied is None else name not in emptied)}
        merged = getattr(service, "merge", ()) if context.method == "patch" else ()
        record = self._loaded(row)
        for name in self.fields.keys() & data.keys():
            value = data[name]
            if name in merged and value is not None:
                value = merge(record.get(name), value)
            record[name] = value
        return {name: _zoned(value) for name, value in record.items()}

    def _loaded(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return a stored record as the schema loads its JSON form. Values that the schema refuses stay as they are."""
        sent = decode(encode({name: row[name] for name in self.fields if name in row}))
        record = {}
        for name, value in sent.items():
            if value is None and not self.fields[name].allow_none:
                continue
            try:
                record[name] = self.fields[name].deserialize(value, name, sent)
            except ValidationError:
                record[name] = row[name]
        return record

    def _errors(self, record: dict[str, Any]) -> dict[str, str]:
        store: Any = ErrorStore()  # type: ignore[no-untyped-call]
        schema = self.schema
        lacks = any(field.required and name not in record for name, field in self.fields.items())
        for collection in (True, False):
            schema._invoke_schema_validators(
                error_store=store, pass_collection=collection, data=dict(record), original_data=record, many=False,
                partial=None, unknown=schema.unknown, field_errors=lacks,
            )  # fmt: skip
        return dict(_sentences(schema, store.errors, Hints()))


def _take_unchanged(context: Context, schema: Schema, declared: Set[str], message: str, refusal: BadRequest) -> None:
    """Accept the server's own fields in the data if the record has the same values.

    Clients send a whole record back as they have received it. The values are compared after all hooks, right before the
    method, with the record as ``get`` shows it to the caller. So nothing is read unless the data has such a field, and
    callers learn nothing about hidden fields. With the id in the data, ``volatile`` fields may have any values, as the
    record may have others by now. Raises the refusal.
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
    before, id = context.around_method, getattr(bound.service, "id", "id")
    volatile = frozenset(getattr(bound.service, "volatile", ())) if id in data else frozenset()

    async def compare(method: Callable[[], Awaitable[Any]]) -> Any:
        shown = await _shown(context, refusal)
        compared = owned - volatile
        changed = [name for name in data if name in compared and shown.get(name, MISSING) != given[name]]
        wrong = {name: errors.get(name, UNKNOWN) for name in changed}
        if wrong:
            raise BadRequest(message, errors=wrong)
        return await (method() if before is None else before(method))

    context.around_method = compare


def _added(bound: BoundService) -> Iterator[str]:
    """Yield the fields that hooks and relations add to the result of ``get``."""
    yield from (name for name, relation in getattr(bound.service, "relations", {}).items() if relation.always)
    for hook in hooks_in(bound._steps["get"], omit="else"):
        if (facts := facts_of(hook)) is not None:
            yield from facts.adds


async def _shown(context: Context, refusal: BadRequest) -> dict[str, Any]:
    """Return the record as ``get`` shows it to the caller, in its JSON form. Raises NotFound or the refusal."""
    params = {name: value for name, value in context.params.items() if name != "adapter"}
    query = {name: value for name, value in context.params.query.items() if name != "$select"}
    try:
        shown = await context.app.call(
            Call(context.service, "get", context.id, params=Params({**params, "query": query}))
        )
    except NotFound:
        raise
    except FeathersError:
        raise refusal from None
    record = decode(encode(shown.external))
    return record if isinstance(record, dict) else {}


@belongs("before", "around")
def validate_query(context: Context) -> None:
    """Give the id and ``params.query`` their types before anything else is done.

    A before hook. Raises NotFound for an id that cannot exist, and BadRequest for a query that cannot be served.
    """
    service = context.service.service
    if context.id is not None:
        context.id = service.typed_id(context.id)
    query = service.syntax.parse(context.params.query)
    context.params.query = query if context.method == "find" else query.plain()


def load(
    schema: Schema, data: Any, message: str, hints: Hints | None = None, partial: Collection[str] | None = None
) -> Any:
    """Return the data as the schema loads it. Raises BadRequest with the names of the wrong fields.

    Calls of one request share their ``hints``, because each suggestion takes time. The data may leave out the fields
    in ``partial``.
    """
    if not isinstance(data, dict | list):
        raise _no_object(message)
    if schema.unknown == RAISE:
        for row in data if isinstance(data, list) else (data,):
            if isinstance(row, dict):
                require_few(row, schema.load_fields, message)
    try:
        return schema.load(data, many=isinstance(data, list), partial=partial)
    except ValidationError as error:
        errors = dict(_sentences(schema, error.messages, hints or Hints()))
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
    return {method: _built(schema, method == "patch") for method, schema in _by_method(schemas).items()}


def _by_method(schemas: Schemas) -> Mapping[str, type[Schema]]:
    return schemas if isinstance(schemas, Mapping) else dict.fromkeys(WRITES, schemas)


@cache
def _built(schema: type[Schema], partial: bool = False, sent: bool | None = None) -> Schema:
    """Return an instance of a schema, which is shared, because building one is slow. Nobody changes it.

    With ``partial`` it loads a patch, which may leave out fields, but not fields of an object, which it replaces.
    ``sent`` keeps only the rules across fields that check the sent data, or only the others.
    """
    built = schema(partial=tuple(_built(schema).fields), exclude=schema.create_only) if partial else schema()
    if sent is not None:
        built._keep_rules(sent)
    return built


def loader(schema: type[Schema], method: str) -> Schema:
    """Return the instance of a schema that ``load`` needs for the data of a method.

    For update and patch it does not check the rules across fields. Use ``check_rules`` for them.
    """
    return _built(schema, method == "patch", True if method in ("update", "patch") else None)


def _rules(schemas: Schemas, message: str) -> dict[str, _Rules]:
    """Return the rules across fields of each method that has some."""
    named = _by_method(schemas)
    methods = [method for method in ("update", "patch") if method in named and _has_rules(named[method])]
    return {method: _Rules(named[method], method, message) for method in methods}


def _has_rules(schema: type[Schema]) -> bool:
    """Return True if a schema has rules across fields that do not check the sent data."""
    return not all(options.get("pass_original") for _, _, options in schema._hooks[VALIDATES_SCHEMA])


def _sentences(schema: marshmallow.Schema | None, messages: Any, hints: Hints, path: str = "") -> Iterator[Sentence]:
    """Yield the path of each wrong field with a sentence. marshmallow's messages are nested."""
    for key, nested in messages.items():
        transparent = key == "_schema" or (schema is None and key in ("key", "value"))
        own = shortened(str(key))
        name = (path or "data") if transparent else f"{path}.{own}" if path else own
        if isinstance(nested, Mapping):
            yield from _sentences(_inside(schema, key), nested, hints, name)
        else:
            yield name, _hint(schema, key, " ".join(map(str, nested)), hints)


def _inside(schema: marshmallow.Schema | None, key: Any) -> marshmallow.Schema | None:
    """Return the schema of the objects in a field. An item of a list has the schema of the list."""
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
