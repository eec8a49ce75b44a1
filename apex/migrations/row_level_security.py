"""Row-level security for migrations: PostgreSQL itself limits each statement to the tenants of its call.

On SQLite, which has neither roles nor row-level security, these functions do nothing. The owner of a table bypasses its
policies, so migrations see all rows. The statements of the app run as ``apex.tenant.ROLE``, which owns no table.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from alembic import op

from apex._moved import renamed
from apex.tenant import ALL_TENANTS, ROLE, SETTING

__all__ = [
    "disable_row_level_security", "enable_row_level_security", "enable_row_level_security_where", "pin_search_path",
    "prepare_row_level_security", "remove_row_level_security", "renew_row_level_security",
]  # fmt: skip

_IS_UNLIMITED = f"(SELECT current_setting('{SETTING}', true)) = '{ALL_TENANTS}'"


def prepare_row_level_security() -> None:
    """Make the role that statements run as, and grant it the present and the later tables of the schema.

    Call it once, in the migration that first enables row-level security. If the user that migrates may not make roles,
    the error names the statements for an administrator.
    """
    if op.get_bind().dialect.name == "postgresql":
        for statement in _PREPARATIONS:
            op.execute(statement)


def remove_row_level_security() -> None:
    """Undo ``prepare_row_level_security``. The role stays, as other databases of the server may use it."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION apex_tenants")
        # It revokes the privileges of the role too, for present and later tables.
        op.execute(f"DROP OWNED BY {ROLE}")


def enable_row_level_security(table: str, column: str) -> None:
    """Let statements read and write only rows of a table whose ``column`` is the id of a tenant of their call."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO {ROLE} USING ({_tenant_condition(column)})")


def enable_row_level_security_where(table: str, condition: str | None = None) -> None:
    """Let statements read and write only rows of a table for which a condition in SQL is true.

    It is for tables whose rows belong to no single tenant. Without a condition only statements with
    ``apex.tenant.ALL_TENANTS`` see rows.
    """
    if op.get_bind().dialect.name == "postgresql":
        rule = _IS_UNLIMITED if condition is None else f"{_IS_UNLIMITED} OR {condition}"
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO {ROLE} USING ({rule})")


def renew_row_level_security(table: str, column: str) -> None:
    """Replace the policy of a table by the one that ``enable_row_level_security`` makes today."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER POLICY tenant ON {table} USING ({_tenant_condition(column)})")


def disable_row_level_security(table: str) -> None:
    """Undo ``enable_row_level_security`` or ``enable_row_level_security_where``."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP POLICY tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


def pin_search_path(function: str) -> None:
    """Let a function with SECURITY DEFINER look up names only in the current schema.

    Temporary tables come last. PostgreSQL searches them first if the path does not name them, and every user may make
    one: https://www.postgresql.org/docs/current/sql-createfunction.html
    """
    if op.get_bind().dialect.name == "postgresql":
        schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
        op.execute(f"ALTER FUNCTION {function} SET search_path = {schema}, pg_temp")


def _tenant_condition(column: str) -> str:
    """Return the rule of a policy.

    PostgreSQL evaluates a SELECT in parentheses once for a statement instead of once for a row. Most calls have one
    tenant, which is compared first: to look for it in a list takes three times as long for each row that is counted.
    """
    first, all_ = "(SELECT (apex_tenants())[1])", "(SELECT apex_tenants())::bigint[]"
    return f"{column} = {first} OR {column} = ANY ({all_}) OR {_IS_UNLIMITED}"


_REFUSAL = f"""
    RAISE insufficient_privilege USING MESSAGE = format(
        'an administrator has to run: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO %I', current_user);
"""

_PREPARATIONS = (
    # The role belongs to the whole server. Another database may have made it, or may make it at this moment.
    f"""
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
            CREATE ROLE {ROLE} NOLOGIN NOBYPASSRLS;
        END IF;
    EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
        WHEN insufficient_privilege THEN {_REFUSAL}
    END $$
    """,
    f"""
    DO $$ BEGIN
        IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            EXECUTE format('GRANT {ROLE} TO %I', current_user);
        END IF;
    EXCEPTION
        WHEN unique_violation THEN NULL;
        WHEN insufficient_privilege THEN
            IF NOT pg_has_role(current_user, '{ROLE}', 'MEMBER') THEN {_REFUSAL} END IF;
    END $$
    """,
    f"DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO {ROLE}', current_schema()); END $$",
    f"""
    DO $$ BEGIN
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO {ROLE}', current_schema());
        EXECUTE format('GRANT SELECT, USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA %I TO {ROLE}', current_schema());
    END $$
    """,
    f"ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {ROLE}",
    f"ALTER DEFAULT PRIVILEGES GRANT SELECT, USAGE, UPDATE ON SEQUENCES TO {ROLE}",
    f"""
    CREATE FUNCTION apex_tenants() RETURNS bigint[] LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ SELECT string_to_array(nullif(current_setting('{SETTING}', true), '{ALL_TENANTS}'), ',')::bigint[] $$
    """,
)


if not TYPE_CHECKING:  # The former names.
    __getattr__ = renamed(
        __name__,
        hold_path="pin_search_path",
        prepare_seals="prepare_row_level_security",
        remove_seals="remove_row_level_security",
        seal_where="enable_row_level_security_where",
        unseal="disable_row_level_security",
    )

    def seal(table: str, column: str = "organization_id") -> None:
        """Call ``enable_row_level_security``, which replaces this function."""
        warnings.warn("seal is enable_row_level_security(table, column) now", DeprecationWarning, stacklevel=2)
        enable_row_level_security(table, column)

    def reseal(table: str, column: str = "organization_id") -> None:
        """Call ``renew_row_level_security``, which replaces this function."""
        warnings.warn("reseal is renew_row_level_security(table, column) now", DeprecationWarning, stacklevel=2)
        renew_row_level_security(table, column)
