"""Search of deals, activities and support tickets, and an index of the tags of tickets.

On SQLite this migration stores the searched forms of existing records. On PostgreSQL ``0012`` does it while the app
runs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import fill
from apex.tenant import ALL_TENANTS, ROLE, SETTING
from hooks.search_forms import line

revision = "0011"
down_revision = "0010"

FORMS = {
    "deals": {"name_search": "name"},
    "activities": {"subject_search": "subject", "note_search": "note"},
    "support_tickets": {"subject_search": "subject", "reference_search": "reference_number"},
}
"""By table the columns that are searched, with those that they are made of."""

# Row-level security keeps LIKE and @> from an index: the functions look past it, and hold to the reach by themselves.
FUNCTION = """
    CREATE FUNCTION {name}({parameters}) RETURNS SETOF bigint
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
    DECLARE mine text := CASE current_setting('{setting}', true)
        WHEN '{everyone}' THEN '' ELSE 'organization_id = ANY ($2) AND ' END;
    BEGIN
        RETURN QUERY EXECUTE format('SELECT id FROM {table} WHERE %s deleted_at IS NULL AND {condition}', mine{form})
            USING {operand}, apex_tenants();
    END $$
"""


def upgrade() -> None:
    for table, forms in FORMS.items():
        for column in forms:
            op.add_column(table, sa.Column(column, sa.Text()))
    if op.get_bind().dialect.name == "postgresql":
        for table in FORMS:
            _create_function(f"{table}_search", "form text, pattern text", table, "%I LIKE $1", "pattern", ", form")
        _create_function("support_tickets_tagged", "items jsonb[]", "support_tickets", "tags @> ANY ($1)", "items")
    else:
        for table, forms in FORMS.items():
            fill(table, {column: (source, line) for column, source in forms.items()})
            _index_on_sqlite(table, list(forms))


def _create_function(name: str, parameters: str, table: str, condition: str, operand: str, form: str = "") -> None:
    bind = op.get_bind()
    schema = bind.dialect.identifier_preparer.quote(bind.scalar(sa.text("SELECT current_schema()")))
    op.execute(
        FUNCTION.format(
            name=name, parameters=parameters, schema=schema, setting=SETTING, everyone=ALL_TENANTS, table=table,
            condition=condition, form=form, operand=operand,
        )
    )  # fmt: skip
    op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO {ROLE}")


def _index_on_sqlite(table: str, forms: list[str]) -> None:
    """Create a trigram index in a table of its own, which triggers keep up to date."""
    index, columns = f"{table}_search", ", ".join(forms)
    new, old = (", ".join(f"{row}.{form}" for form in forms) for row in ("new", "old"))
    insert = f"INSERT INTO {index} (rowid, {columns}) VALUES (new.id, {new});"
    delete = f"INSERT INTO {index} ({index}, rowid, {columns}) VALUES ('delete', old.id, {old});"
    options = f"content='{table}', content_rowid='id', tokenize='trigram case_sensitive 1'"
    op.execute(f"CREATE VIRTUAL TABLE {index} USING fts5({columns}, {options})")
    op.execute(f"INSERT INTO {index} ({index}) VALUES ('rebuild')")
    op.execute(f"CREATE TRIGGER {index}_insert AFTER INSERT ON {table} BEGIN {insert} END")
    op.execute(f"CREATE TRIGGER {index}_delete AFTER DELETE ON {table} BEGIN {delete} END")
    op.execute(f"CREATE TRIGGER {index}_update AFTER UPDATE OF {columns} ON {table} BEGIN {delete} {insert} END")


def downgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    if on_postgresql:
        op.execute("DROP FUNCTION support_tickets_tagged")
    for table, forms in FORMS.items():
        if on_postgresql:
            op.execute(f"DROP FUNCTION {table}_search")
        else:
            for event in ("insert", "delete", "update"):
                op.execute(f"DROP TRIGGER {table}_search_{event}")
            op.execute(f"DROP TABLE {table}_search")
        for column in forms:
            op.drop_column(table, column)
