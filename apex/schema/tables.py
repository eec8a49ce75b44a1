"""Schemas that take their fields from the columns of a table."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from types import new_class
from typing import Any, cast

from marshmallow import ValidationError, fields
from marshmallow.schema import SchemaMeta
from marshmallow.validate import OneOf, Range
from sqlalchemy import CHAR, CheckConstraint, Column, Table
from sqlalchemy.exc import CompileError
from sqlalchemy.types import NullType

from apex.encoding import decode, encode
from apex.query.language import Hints
from apex.schema.fields import BooleanField, DecimalField, FloatField, IdField, IntegerField, TextField
from apex.schema.validation import Schema
from apex.sql.types.columns import FixedNumbers
from apex.sql.types.registry import ColumnType, column_type
from apex.sql.types.standard import Booleans, Decorated, Floats, Integers, Numerics, Texts

Field = fields.Field[Any]

NAMING = ("fields", "exclude", "dump_only", "load_only")
"""The options of ``Meta`` that name fields."""


class ColumnField(fields.Field[Any]):
    """A field that reads JSON values as the type of a column does, and states the same rules in its errors."""

    default_error_messages: dict[str, str | list[Any] | dict[Any, Any]] = {"type": "Must be {kind}"}

    def __init__(self, column_type: ColumnType, **options: Any) -> None:
        super().__init__(**options)
        self.column_type: ColumnType = column_type
        kinds = column_type.shape.get("type", "string")
        self.takes_text: bool = "string" in kinds
        """False if a text would have to stand for a number, as it does in a URL."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:
        return decode(encode(value))

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and not self.takes_text:
            raise self.make_error("type", kind=_KINDS.get(self.column_type.shape["type"], "a number"))
        try:
            return self.column_type.coerce(value)
        except ValueError as error:
            rule = str(error)
            raise ValidationError(rule[:1].upper() + rule[1:]) from None


_KINDS = {"integer": "an integer", "boolean": "true or false", "array": "a list", "object": "an object"}


class TableSchemaMeta(SchemaMeta):
    """The metaclass of ``TableSchema``, which adds the fields when a class is made."""

    @classmethod
    def get_declared_fields(
        mcs, klass: SchemaMeta, cls_fields: Any, inherited_fields: Any, dict_cls: type[dict[str, Any]] = dict
    ) -> dict[str, Field]:
        """Return the fields of the table, in the order of its columns, under those that the class declares."""
        made = cast("type[TableSchema]", klass)
        derived = {id(field) for base in klass.__mro__[1:] for field in vars(base).get("derived", {}).values()}
        table = getattr(klass.Meta, "table", None)
        inherited = [(name, field) for name, field in inherited_fields if table is None or id(field) not in derived]
        declared = dict_cls([*inherited, *cls_fields])
        if table is None:
            return declared
        if not isinstance(table, Table):
            fix = "a mapped class has it as its __table__" if hasattr(table, "__table__") else "such as issues"
            raise TypeError(f"{klass.__name__}.Meta.table must be a Table of SQLAlchemy, {fix}")
        _require_names(klass, table, declared)
        made.derived = dict(_fields_of(made, table, declared))
        used = {**made.derived, **declared}
        # SQLAlchemy's names are of a subclass of str, which not every reader of an OpenAPI document takes.
        return {name: used[name] for name in (*map(str, table.columns.keys()), *declared) if name in used}


class TableSchema(Schema, metaclass=TableSchemaMeta):
    """A schema with a field for each column of a table::

        class IssueSchema(TableSchema):
            class Meta:
                table = issues
                dump_only = ("created_at", "user_id")

            email = EmailField(max=254)  # in place of the field of the column

    A field has the type, length, precision and choices of its column. It may be null if the column may. It is required
    if the column has no default and cannot be null. Callers can only read columns that the server writes: generated
    primary keys, computed columns, columns with ``onupdate``, and those in ``Meta.dump_only``. A primary key that
    callers choose can only be set on create. CHECK constraints count if they compare one column with numbers or texts.
    ``Meta.fields`` and ``Meta.exclude`` choose columns as in marshmallow.

    Making a class raises TypeError for a column whose type is unknown, and for names in ``Meta`` that are unknown.
    """

    derived: Mapping[str, Field] = {}
    """The fields that are taken from columns, by name."""

    @classmethod
    def of(
        cls,
        table: Table,
        *,
        dump_only: Sequence[str] = (),
        create_only: Sequence[str] = (),
        exclude: Sequence[str] = (),
        **declared: Field,
    ) -> type[TableSchema]:
        """Return the schema of a table in one expression, with other fields in place of those of the columns.

        ::

            validate_data(TableSchema.of(users, password=PasswordField(required=True)), "Invalid user")

        ``dump_only`` and ``exclude`` are those of ``Meta``. A patch may not change the fields in ``create_only``.
        Raises TypeError as making a class does.
        """
        meta = type("Meta", (cls.Meta,), {"table": table, "dump_only": tuple(dump_only), "exclude": tuple(exclude)})
        name = "".join(word.capitalize() for word in re.split(r"[^0-9A-Za-z]+", str(table.name)))
        body = {"Meta": meta, "create_only": tuple(create_only), **declared}
        return new_class(f"{name}Schema", (cls,), exec_body=lambda names: names.update(body))


def _require_names(klass: SchemaMeta, table: Table, declared: Collection[str]) -> None:
    known = {*table.columns.keys(), *declared}
    for option in NAMING:
        for name in getattr(klass.opts, option):
            if name not in known:
                hint = Hints().suggestion(name, known)
                raise TypeError(f"{klass.__name__}.Meta.{option} names '{name}', which is no field or column.{hint}")


def _fields_of(klass: type[TableSchema], table: Table, declared: Collection[str]) -> Iterator[tuple[str, Field]]:
    """Yield a field for each column that the class uses and does not declare."""
    opts, checks = klass.opts, _checks(table)
    for column in table.columns:
        name = str(column.name)
        if name in declared or (opts.fields and name not in opts.fields):
            continue
        if name in opts.exclude:
            yield name, fields.Raw(dump_only=True)  # marshmallow excludes only fields that there are.
            continue
        is_read_only = _is_server_written(column)
        if column.primary_key and not is_read_only:
            klass.create_only = tuple(dict.fromkeys((*klass.create_only, name)))
        options = _options(column, is_read_only or name in opts.dump_only)
        yield name, _field(_type_of(klass, column), column, checks.get(name, ()), options)


def _type_of(klass: type[TableSchema], column: Column[Any]) -> ColumnType:
    """Return the column type. Raises TypeError, which names the fix, if the type is unknown."""
    if isinstance(column.type, NullType):
        raise TypeError(
            f"Column '{column}' has no type yet, which {klass.__name__} needs: give it one, or define the table that "
            "its foreign key refers to before the schema"
        )
    try:
        return column_type(column.type)
    except TypeError as error:
        fix = f"Or declare a field '{column.name}' in {klass.__name__}, or name it in Meta.exclude"
        raise TypeError(f"Column '{column}': the type {column.type!r} {error}. {fix}") from None


def _is_server_written(column: Column[Any]) -> bool:
    """Return True if the database or the service writes a column, and callers never do."""
    identity, table = column.identity, column.table
    is_generated = column.computed is not None or (identity is not None and bool(identity.always))
    is_stamped = column.onupdate is not None or column.server_onupdate is not None
    is_key = column.primary_key and (column is table.autoincrement_column or _has_default(column))
    return is_generated or is_stamped or is_key or column.name == table.info.get("live")


def _has_default(column: Column[Any]) -> bool:
    return column.default is not None or column.server_default is not None


def _options(column: Column[Any], is_read_only: bool) -> dict[str, Any]:
    """Return the options of a field that do not depend on the type."""
    text = column.doc or column.comment
    options = {"allow_none": bool(column.nullable), "metadata": {"description": text} if text else {}}
    if is_read_only:
        return {**options, "dump_only": True}
    return {**options, "required": not column.nullable and not _has_default(column)}


def _field(made: ColumnType, column: Column[Any], checks: Sequence[Range | OneOf], options: dict[str, Any]) -> Field:
    """Return the field for a column. Types without a field of their own get a ``ColumnField``."""
    kind = made.form if isinstance(made, Decorated) else made
    if type(kind) is Texts:
        choices = [check for check in checks if isinstance(check, OneOf)]
        return TextField(min=_shortest(column, kind), max=kind.type.length, validate=choices, **options)
    if type(kind) is Integers and column.foreign_keys:
        return IdField(max=kind.most, **options)
    if type(kind) is Booleans:
        return BooleanField(**options)
    options = {**options, "validate": [check for check in checks if isinstance(check, Range)]}
    if type(kind) is Integers:
        return IntegerField(min=-kind.most - 1, max=kind.most, **options)
    if type(kind) is Floats and not kind.is_single and not kind.type.asdecimal:
        return FloatField(**options)
    if type(kind) is Numerics and kind.type.asdecimal:
        precision, places = kind.type.precision, kind.scale or 0
        return _decimal(kind.scale, None if precision is None else precision - places, options)
    if type(kind) is FixedNumbers:
        return _decimal(kind.type.places, kind.type.digits, options)
    return ColumnField(made, **options)


def _shortest(column: Column[Any], kind: Texts) -> int:
    """Return the fewest characters of a text. PostgreSQL fills a CHAR with spaces, so it must have its whole length."""
    if isinstance(kind.type, CHAR) and kind.type.length:
        return kind.type.length
    defaults = (getattr(default, "arg", None) for default in (column.default, column.server_default))
    return 0 if "" in defaults else 1


def _decimal(places: int | None, digits: int | None, options: dict[str, Any]) -> Field:
    """Return the field for a decimal number with so many digits after and before the point."""
    most = None if digits is None else Decimal(10) ** digits - Decimal(1).scaleb(-(places or 0))
    return DecimalField(places=places, min=None if most is None else -most, max=most, **options)


_NAME, _NUMBER, _TEXT = r'(?:"?\w+"?\.)?"?(\w+)"?', r"(-?\d+(?:\.\d+)?)", "'(?:[^']|'')*'"
_BETWEEN = re.compile(rf"{_NAME} BETWEEN {_NUMBER} AND {_NUMBER}", re.IGNORECASE)
_COMPARED = re.compile(rf"{_NAME} ?(<=|>=|<|>) ?{_NUMBER}")
_LISTED = re.compile(rf"{_NAME} IN ?\(({_TEXT}(?:, ?{_TEXT})*)\)", re.IGNORECASE)


def _checks(table: Table) -> dict[str, list[Range | OneOf]]:
    """Return the validators for CHECK constraints by column. A constraint with any part that is not clear has none."""
    found: dict[str, list[Range | OneOf]] = {}
    of_columns = (constraint for column in table.columns for constraint in column.constraints)
    for constraint in (*table.constraints, *of_columns):
        if isinstance(constraint, CheckConstraint):
            try:
                text = str(constraint.sqltext.compile(compile_kwargs={"literal_binds": True}))
            except CompileError:  # It compares with a value that has no literal, so it is not clear.
                continue
            text = _BETWEEN.sub(r"\1 >= \2 AND \1 <= \3", " ".join(text.split()))
            parts = [_validator(part) for part in re.split(" AND ", text, flags=re.IGNORECASE)]
            if None not in parts:
                for name, validator in filter(None, parts):
                    found.setdefault(name, []).append(validator)
    return found


def _validator(condition: str) -> tuple[str, Range | OneOf] | None:
    """Return the column and the validator of a condition, or None if it is not clear."""
    if (listed := _LISTED.fullmatch(condition)) is not None:
        return listed[1], OneOf([text[1:-1].replace("''", "'") for text in re.findall(_TEXT, listed[2])])
    if (compared := _COMPARED.fullmatch(condition)) is None:
        return None
    name, operator, limit = compared[1], compared[2], Decimal(compared[3])
    is_least, is_inclusive = operator.startswith(">"), operator.endswith("=")
    if is_least:
        return name, Range(min=limit, min_inclusive=is_inclusive)
    return name, Range(max=limit, max_inclusive=is_inclusive)
