"""The hooks for the fields that the server itself writes in every record."""

from __future__ import annotations

from apex import common

soft_delete = common.soft_delete("deleted_at", "updated_at")
timestamps = common.timestamps("created_at", "updated_at")
set_owner = common.set_owner("owned_by_user_id", creator="created_by_user_id")
