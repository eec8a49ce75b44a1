"""Indexed tables with the values of custom fields, which triggers keep up to date.

On SQLite this migration copies the values of existing records. On PostgreSQL ``0009`` does it while the app runs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from apex.migrations import disable_row_level_security, enable_row_level_security
from migrations.tables import IDENTIFIER

revision = "0004"
down_revision = "0003"

TABLES = {"contact_values": "contacts", "company_values": "companies"}

POSTGRESQL = """
    INSERT INTO {values} (organization_id, record_id, name, number, text)
    SELECT {row}.organization_id, {row}.id, key,
        CASE jsonb_typeof(value) WHEN 'number' THEN value::double precision END,
        CASE jsonb_typeof(value) WHEN 'number' THEN NULL ELSE left(value #>> '{{}}', 500) END
    FROM jsonb_each({row}.custom_fields_by_name)
    WHERE {row}.deleted_at IS NULL AND jsonb_typeof(value) IN ('number', 'string', 'boolean') AND length(key) <= 100
"""
SQLITE = """
    INSERT INTO {values} (organization_id, record_id, name, number, text)
    SELECT {row}.organization_id, {row}.id, key,
        CASE WHEN type IN ('integer', 'real') THEN value END,
        CASE type WHEN 'text' THEN substr(value, 1, 500) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' END
    FROM {source} json_each({row}.custom_fields_by_name)
    WHERE {row}.deleted_at IS NULL AND type IN ('integer', 'real', 'text', 'true', 'false') AND length(key) <= 100
"""
CHANGED = "UPDATE OF custom_fields_by_name, deleted_at, organization_id"


def upgrade() -> None:
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    for values, records in TABLES.items():
        _create_table(values)
        if on_postgresql:
            _keep_on_postgresql(values, records)
        else:
            op.execute(SQLITE.format(values=values, row=records, source=f"{records},"))
            _keep_on_sqlite(values, records)


def _create_table(values: str) -> None:
    def text(name: str, size: int, required: bool = False) -> sa.Column[str]:
        """Return a column of texts that are compared by code point."""
        kind = sa.String(size).with_variant(sa.String(size, collation="C"), "postgresql")
        return sa.Column(name, kind, nullable=not required)

    op.create_table(
        values,
        sa.Column("organization_id", IDENTIFIER, nullable=False),
        sa.Column("record_id", IDENTIFIER, nullable=False),
        text("name", 100, required=True),
        sa.Column("number", sa.Double()),
        text("text", 500),
        sa.PrimaryKeyConstraint("record_id", "name", name=f"pk_{values}"),
    )
    op.create_index(f"ix_{values}_sorted", values, ["organization_id", "name", "number", "text", "record_id"])
    enable_row_level_security(values, "organization_id")


def _keep_on_postgresql(values: str, records: str) -> None:
    copied = POSTGRESQL.format(values=values, row="new")
    op.execute(f"""
        CREATE FUNCTION keep_{values}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_OP <> 'INSERT' THEN
                DELETE FROM {values} WHERE organization_id = old.organization_id AND record_id = old.id;
            END IF;
            IF TG_OP <> 'DELETE' THEN
                {copied};
            END IF;
            RETURN NULL;
        END $$
    """)
    for when, event in (("insert", "INSERT"), ("update", CHANGED), ("delete", "DELETE")):
        op.execute(
            f"CREATE TRIGGER {values}_{when} AFTER {event} ON {records} FOR EACH ROW EXECUTE FUNCTION keep_{values}()"
        )


def _keep_on_sqlite(values: str, records: str) -> None:
    insert = SQLITE.format(values=values, row="new", source="") + ";"
    delete = f"DELETE FROM {values} WHERE record_id = old.id;"
    for when, event, work in (
        ("insert", "INSERT", insert),
        ("update", CHANGED, delete + insert),
        ("delete", "DELETE", delete),
    ):
        op.execute(f"CREATE TRIGGER {values}_{when} AFTER {event} ON {records} BEGIN {work} END")


def downgrade() -> None:
    for values, records in TABLES.items():
        for when in ("insert", "update", "delete"):
            on = f" ON {records}" if op.get_bind().dialect.name == "postgresql" else ""
            op.execute(f"DROP TRIGGER {values}_{when}{on}")
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP FUNCTION keep_{values}()")
        disable_row_level_security(values)
        op.drop_table(values)
