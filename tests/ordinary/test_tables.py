"""Tables and options that cannot work as a service: each is refused when it is registered."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, String, Table, UniqueConstraint

from apex import Apex, MemoryService, SQLService, database
from apex.query.coercion import integer, text


def table(*parts: Any) -> Table:
    return Table("seats", MetaData(), *parts)


def register(service: Any) -> None:
    Apex().configure(database("sqlite:///never.db")).use("seats", service)


def pair(*more: Any) -> Table:
    return table(Column("row", Integer, primary_key=True), Column("id", Integer, primary_key=True), *more)


def code(**options: Any) -> Table:
    return table(Column("number", Integer, primary_key=True), Column("id", String(9), **options))


def test_a_table_without_the_id_is_refused() -> None:
    with pytest.raises(TypeError, match="Option id of service 'seats' names 'id', which is no field"):
        register(SQLService(table=table(Column("code", String(9), primary_key=True))))


@pytest.mark.parametrize("ambiguous", [pair(), code(), code(index=True)])
def test_an_id_that_several_rows_may_have_is_refused(ambiguous: Table) -> None:
    with pytest.raises(TypeError, match=r"'seats' does not name one row: seats\.id is not unique by itself"):
        register(SQLService(table=ambiguous))


def test_an_id_that_is_unique_is_taken() -> None:
    view, of_tenant = table(Column("id", Integer)), pair()
    of_tenant.info["tenant"] = "row"
    unique = [pair(UniqueConstraint("id")), code(unique=True), code(index=True, unique=True), view]
    indexed = code()
    Index("by_code", indexed.c.id, unique=True)
    for seats in [*unique, indexed, of_tenant]:
        register(SQLService(table=seats))
    register(SQLService(table=pair(), methods=["find", "create"]))


@pytest.mark.parametrize("option", ["private", "merge"])
def test_options_that_name_no_field_are_refused(option: str) -> None:
    options: Any = {option: ["secrte"]}
    seats = table(Column("id", Integer, primary_key=True), Column("secret", String(9)))
    with pytest.raises(TypeError, match=f"Option {option} of service 'seats' names 'secrte'.*'secret'"):
        register(SQLService(table=seats, **options))
    with pytest.raises(TypeError, match=f"Option {option} of service 'seats' names 'secrte'"):
        register(MemoryService(fields={"id": integer, "secret": text}, **options))


@pytest.mark.parametrize("paginate", [True, 10, {"defualt": 5}, {"default": "5"}, {"max": -1}, {"max": True}, ["max"]])
def test_a_paginate_that_would_fail_in_every_list_is_refused(paginate: Any) -> None:
    with pytest.raises(TypeError, match="paginate takes False or a dict such as"):
        MemoryService(paginate=paginate)
    for taken in (False, {}, {"default": 0}, {"max": 5}):
        MemoryService(paginate=taken)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_name_that_sqlite_would_lose_in_a_create_of_many_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=r"SQLite finds no .* in JSON"):
        register(SQLService(table=table(Column("id", Integer, primary_key=True), Column(name, Integer))))
    register(SQLService(table=table(Column("id", Integer, primary_key=True), Column("it's [a.b]é%", Integer))))
