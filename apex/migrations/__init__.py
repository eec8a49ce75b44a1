"""Migrations: versions of the database, and changes of tables that are in use."""

from typing import TYPE_CHECKING

from apex._lazy import lazy_names

if TYPE_CHECKING:
    from apex.migrations.comparison import differences
    from apex.migrations.ddl import (
        add_check,
        add_foreign_key,
        add_unique,
        alter_table,
        backfill,
        change_enum,
        create_index,
        create_search_index,
        drop_check,
        drop_foreign_key,
        drop_index,
        drop_search_index,
        drop_unique,
        fill,
        set_not_null,
    )
    from apex.migrations.migrate import run_migrations, upgrade
    from apex.migrations.revisions import connect, is_up_to_date
    from apex.migrations.row_level_security import (
        disable_row_level_security,
        enable_row_level_security,
        enable_row_level_security_where,
        pin_search_path,
        prepare_row_level_security,
        remove_row_level_security,
        renew_row_level_security,
    )

__all__ = [
    "add_check",
    "add_foreign_key",
    "add_unique",
    "alter_table",
    "backfill",
    "change_enum",
    "connect",
    "create_index",
    "create_search_index",
    "differences",
    "disable_row_level_security",
    "drop_check",
    "drop_foreign_key",
    "drop_index",
    "drop_search_index",
    "drop_unique",
    "enable_row_level_security",
    "enable_row_level_security_where",
    "fill",
    "is_up_to_date",
    "pin_search_path",
    "prepare_row_level_security",
    "remove_row_level_security",
    "renew_row_level_security",
    "run_migrations",
    "set_not_null",
    "upgrade",
]

__getattr__ = lazy_names(
    __name__,
    {
        "comparison": ["differences"],
        "ddl": [
            "add_check",
            "add_foreign_key",
            "add_unique",
            "alter_table",
            "backfill",
            "change_enum",
            "create_index",
            "create_search_index",
            "drop_check",
            "drop_foreign_key",
            "drop_index",
            "drop_search_index",
            "drop_unique",
            "fill",
            "set_not_null",
        ],
        "migrate": ["run_migrations", "upgrade"],
        "revisions": ["connect", "is_up_to_date"],
        "row_level_security": [
            "disable_row_level_security",
            "enable_row_level_security",
            "enable_row_level_security_where",
            "pin_search_path",
            "prepare_row_level_security",
            "remove_row_level_security",
            "renew_row_level_security",
        ],
    },
)
