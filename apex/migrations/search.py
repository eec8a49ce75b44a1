"""The statements that make and drop the index of a full-text search.

On PostgreSQL the index is a generated column of the table, ``search_document``, with a GIN index. On SQLite it is a
virtual table of FTS5, which triggers keep up to date. Both split texts into words as ``apex.query.search`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import DDL, Dialect, Select, Table, and_, column, func, select, table

from apex.query.search import LONGEST_WORD, SEARCHED, VARIANTS

SEARCHABLE = "searchable"
"""The key in ``info`` of a table for the fields that its search index has. A service with ``searchable`` sets it."""

DOCUMENT = "search_document"
"""The column of PostgreSQL with the words of a row."""

TRIGGERS = ("insert", "update", "delete")

_VECTOR = f"""
CREATE OR REPLACE FUNCTION apex_search_vector(content text, weight "char", longest integer) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT setweight(CAST(coalesce(string_agg(left(word, {LONGEST_WORD}) || ':' || place, ' '), '')
        AS tsvector), weight)
    FROM regexp_split_to_table(
        translate(normalize(regexp_replace(
            normalize(lower(left(content, longest) COLLATE "und-x-icu"), NFD), '([a-z])[\\u0300-\\u036f]+', '\\1', 'g'
        ), NFC), '{"".join(VARIANTS)}', '{"".join(VARIANTS.values())}') COLLATE "und-x-icu", '[^[:alnum:]]+'
    ) WITH ORDINALITY AS words(word, place)
    WHERE word <> ''
$$
"""
"""The function for the words of a text, with their places. The texts are in Unicode, whatever the locale is."""

_PICTURES = "".join(map(chr, range(0x1F300, 0x1FB00)))
"""Emojis. FTS5 takes them for letters, as its tables are older."""

_TOKENIZER = f"unicode61 remove_diacritics 2 categories ''L* Nd'' separators ''{_PICTURES}''"


def index_name(table: str) -> str:
    """Return the name of the index: of PostgreSQL's GIN index and of SQLite's virtual table."""
    return f"{table}_search"


def trigger_name(table: str, event: str) -> str:
    """Return the name of the trigger of SQLite that follows an event of the table."""
    return f"{index_name(table)}_{event}"


def is_complete(source: Table, dialect: Dialect) -> Select[Any]:
    """Return the statement that tells if the database has the whole index of a table."""
    if dialect.name == "postgresql":
        name = dialect.identifier_preparer.format_table(source)
        rows, names = table("pg_attribute", column("attname"), column("attrelid")), [DOCUMENT]
        found = and_(rows.c.attname == DOCUMENT, rows.c.attrelid == func.to_regclass(name))
    else:
        own = str(source.name)
        names = [index_name(own), *(trigger_name(own, event) for event in TRIGGERS)]
        rows = table("sqlite_master", column("name"))
        found = rows.c.name.in_(names)
    return select((func.count() == len(names)).label("complete")).select_from(rows).where(found)


def created_index(table: str, fields: Sequence[str], dialect: Dialect) -> list[DDL]:
    """Return the statements that make the whole index of a table that is not in use."""
    if dialect.name != "postgresql":
        return created_table(table, fields, dialect)
    quoted = _quoting(dialect)
    index = f"CREATE INDEX IF NOT EXISTS {quoted(index_name(table))} ON {quoted(table)} USING gin ({DOCUMENT})"
    return [*added_column(table, fields, dialect), *_ddl(index)]


def added_column(table: str, fields: Sequence[str], dialect: Dialect) -> list[DDL]:
    """Return the statements that add the words of each row to a table of PostgreSQL."""
    quoted = _quoting(dialect)
    longest = SEARCHED // len(fields)
    vectors = (
        f"apex_search_vector({quoted(field)}, '{'ABCD'[min(place, 3)]}', {longest})"
        for place, field in enumerate(fields)
    )
    words = " || ".join(vectors)
    column = f"ADD COLUMN IF NOT EXISTS {DOCUMENT} tsvector GENERATED ALWAYS AS ({words}) STORED"
    return _ddl(_VECTOR, f"ALTER TABLE {quoted(table)} {column}")


def created_table(table: str, fields: Sequence[str], dialect: Dialect) -> list[DDL]:
    """Return the statements that make the index of a table of SQLite anew, and fill it."""
    quoted = _quoting(dialect)
    index, source = quoted(index_name(table)), quoted(table)
    names = ", ".join(f"text_{place}" for place, _ in enumerate(fields, 1))  # FTS5 refuses names such as "rank".

    def texts(row: str) -> str:
        longest = SEARCHED // len(fields)
        return ", ".join(f"substr({row}.{quoted(field)}, 1, {longest})" for field in fields)

    insert = f"INSERT INTO {index} (rowid, {names}) VALUES (new.rowid, {texts('new')})"
    delete = f"INSERT INTO {index} ({index}, rowid, {names}) VALUES ('delete', old.rowid, {texts('old')})"
    changed = " OR ".join(f"old.{name} IS NOT new.{name}" for name in ("rowid", *map(quoted, fields)))
    bodies = {"insert": insert, "update": f"{delete}; {insert}", "delete": delete}
    conditions = {"update": f"WHEN {changed} "}
    return [
        *dropped_table(table, dialect),
        *_ddl(
            f"CREATE VIRTUAL TABLE {index} USING fts5({names}, content='', prefix='2 3', tokenize='{_TOKENIZER}')",
            f"INSERT INTO {index} (rowid, {names}) SELECT rowid, {texts(source)} FROM {source}",
            *(
                f"CREATE TRIGGER {quoted(trigger_name(table, event))} AFTER {event.upper()} ON {source} "
                f"{conditions.get(event, '')}BEGIN {bodies[event]}; END"
                for event in TRIGGERS
            ),
        ),
    ]


def filled_again(table: str, insert: str, dialect: Dialect) -> list[DDL]:
    """Return the statements that fill the index of a table of SQLite again, from the text of its trigger for inserts.

    A table that SQLite has copied may have other rowids.
    """
    index = _quoting(dialect)(index_name(table))
    into, values = insert.partition(" BEGIN ")[2].removesuffix("; END").split(" VALUES ", 1)
    rows = f"{into} SELECT {values.removeprefix('(').removesuffix(')')} FROM {_quoting(dialect)(table)} AS new"
    return _ddl(f"INSERT INTO {index} ({index}) VALUES ('delete-all')", rows)


def dropped_table(table: str, dialect: Dialect) -> list[DDL]:
    """Return the statements that drop the index of a table of SQLite, if it is there."""
    quoted = _quoting(dialect)
    triggers = [f"DROP TRIGGER IF EXISTS {quoted(trigger_name(table, event))}" for event in TRIGGERS]
    return _ddl(*triggers, f"DROP TABLE IF EXISTS {quoted(index_name(table))}")


def _quoting(dialect: Dialect) -> Callable[[str], str]:
    return dialect.identifier_preparer.quote


def _ddl(*statements: str) -> list[DDL]:
    """Return statements with no parameters, whatever colons and percent signs they have."""
    return [DDL(statement.replace("%", "%%")) for statement in statements]  # type: ignore[no-untyped-call]
