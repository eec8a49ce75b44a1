"""The environment of the migrations: Alembic runs this file."""

from apex.migrations import run_migrations
from services.app import SERVICES
from services.tables import metadata

assert len(SERVICES), "importing the services fills metadata with their tables"
run_migrations(metadata)
