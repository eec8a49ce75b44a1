"""Row-level security, for migrations: PostgreSQL itself holds each statement to the reach of its call.

SQLite has neither roles nor row-level security: there, nothing is done. Whoever owns a table gets around its policies,
so migrations see all rows; the app's statements run as ``apex.tenant.ROLE``, which owns none.
"""

from __future__ import annotations

from alembic import op

from apex.tenant import EVERYONE, ROLE, SETTING

_EVERYONE = f"(SELECT current_setting('{SETTING}', true)) = '{EVERYONE}'"


def prepare_seals() -> None:
    """In a migration, once, before ``seal``: the role that statements run as, and what it may do with the tables that
    there are and will be. Does nothing on SQLite, which has neither roles nor row-level security.
    """
    if op.get_bind().dialect.name == "postgresql":
        for statement in _PREPARATIONS:
            op.execute(statement)


def remove_seals() -> None:
    """In a migration: undoes ``prepare_seals``. The role stays, other databases of the server may have it too."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION apex_tenants")
        for kind in ("TABLES", "SEQUENCES"):
            op.execute(f"ALTER DEFAULT PRIVILEGES REVOKE ALL ON {kind} FROM {ROLE}")
        op.execute(f"DROP OWNED BY {ROLE}")


def seal(table: str, column: str = "organization_id") -> None:
    """In a migration: from now on statements reach the rows of a table only where ``column`` is within their reach."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO {ROLE} USING ({_within_reach(column)})")


def seal_where(table: str, condition: str | None = None) -> None:
    """Let calls reach only the rows of a table for which a condition in SQL holds, in a migration.

    Without one they reach none. Work inside the process, with ``apex.tenant.EVERYONE``, reaches all.
    """
    if op.get_bind().dialect.name == "postgresql":
        rule = _EVERYONE if condition is None else f"{_EVERYONE} OR {condition}"
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY tenant ON {table} TO {ROLE} USING ({rule})")


def hold_path(function: str) -> None:
    """Let a function that runs as its owner look for names in this schema alone, in a migration.

    Temporary tables come last. PostgreSQL looks there first where the path does not say so, and everybody may make one:
    https://www.postgresql.org/docs/current/sql-createfunction.html
    """
    if op.get_bind().dialect.name == "postgresql":
        schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
        op.execute(f"ALTER FUNCTION {function} SET search_path = {schema}, pg_temp")


def reseal(table: str, column: str = "organization_id") -> None:
    """In a migration: a table that an earlier version of ``seal`` has sealed gets the policy of this one."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"ALTER POLICY tenant ON {table} USING ({_within_reach(column)})")


def unseal(table: str) -> None:
    """In a migration: undoes ``seal``."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP POLICY tenant ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


def _within_reach(column: str) -> str:
    """The rule of a policy. What is in parentheses with SELECT is worked out once for a statement, not once for a row.

    Most calls reach one tenant: to look for it in a list takes three times as long for each row that is counted.
    """
    first, all_ = "(SELECT (apex_tenants())[1])", "(SELECT apex_tenants())::bigint[]"
    return f"{column} = {first} OR {column} = ANY ({all_}) OR {_EVERYONE}"


_REFUSAL = f"""
    RAISE insufficient_privilege USING MESSAGE = format(
        'an administrator has to run: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO %I', current_user);
"""

_PREPARATIONS = (
    # The role belongs to the whole server: another database may have made it, or make it in this moment.
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
    AS $$ SELECT string_to_array(nullif(current_setting('{SETTING}', true), '{EVERYONE}'), ',')::bigint[] $$
    """,
)
