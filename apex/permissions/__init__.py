"""Permissions: what callers may do, declared beside the methods and enforced by the hook ``authorize``."""

from apex.permissions.hook import Refused, authorize
from apex.permissions.roles import Roles, roles
from apex.permissions.rules import Mine, Rule, can, mine

__all__ = ["Mine", "Refused", "Roles", "Rule", "authorize", "can", "mine", "roles"]
