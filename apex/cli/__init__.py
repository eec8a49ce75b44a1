"""The ``apex`` command, and what the commands of applications share."""

from apex.cli.commands import DAY, ID, as_json_option, main
from apex.cli.loading import load_app, require_migrated, run

__all__ = ["DAY", "ID", "as_json_option", "load_app", "main", "require_migrated", "run"]
