"""The OpenAPI document of an app, made of its registry: services, methods, schemas, and what hooks say of themselves.

What it takes to make one is loaded when the first one is made.
"""

from __future__ import annotations

from apex.openapi.routes import document_of, routes

__all__ = ["document_of", "routes"]
