"""Relations: the records of other services that belong to a record, declared once on its service."""

from apex.relations.declarations import Relation, belongs_to, has_many, many_to_many

__all__ = ["Relation", "belongs_to", "has_many", "many_to_many"]
