"""The OpenAPI document says which roles may call a method."""

from __future__ import annotations

from apex.openapi import document_of
from apex.permissions import can, mine
from tests.permissions.apps import app_of


def test_each_operation_names_its_roles_and_the_refusal() -> None:
    app = app_of({"user": can("get"), "author": can("patch", where=mine("user_id")), "admin": can("*")}, "admin")
    paths = document_of(app)["paths"]
    assert paths["/notes/{id}"]["get"]["x-roles"] == ["user", "admin"]
    assert paths["/notes/{id}"]["patch"]["x-roles"] == ["author", "admin"]
    assert "403" in paths["/notes/{id}"]["patch"]["responses"]
