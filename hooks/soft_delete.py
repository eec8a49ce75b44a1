"""Rows that are removed stay in the table, out of everyone's reach."""

from __future__ import annotations

from apex import common

soft_delete = common.soft_delete("deleted_at", "updated_at")
