"""The ``apex`` command, and what the commands of applications share."""

from apex.cli.commands import main
from apex.cli.loading import load_app, require_migrated, run
from apex.cli.options import DAY, ID, as_json_option

__all__ = ["DAY", "ID", "as_json_option", "load_app", "main", "require_migrated", "run"]
