"""Feathers for Python: services, hooks and the transports that serve them."""

from apex.app import Apex
from apex.auth import AuthenticationService, JWTStrategy, LocalStrategy, authenticate
from apex.batch import batch
from apex.bus import bus
from apex.channels import Connection
from apex.config import load_config
from apex.context import Context, Params
from apex.memory import MemoryService
from apex.rest import rest
from apex.schema import Schema, validate_data, validate_query
from apex.service import Service
from apex.sockets import sockets
from apex.sql import SQLService, database

__all__ = [
    "Apex",
    "AuthenticationService",
    "Connection",
    "Context",
    "JWTStrategy",
    "LocalStrategy",
    "MemoryService",
    "Params",
    "SQLService",
    "Schema",
    "Service",
    "authenticate",
    "batch",
    "bus",
    "database",
    "load_config",
    "rest",
    "sockets",
    "validate_data",
    "validate_query",
]
