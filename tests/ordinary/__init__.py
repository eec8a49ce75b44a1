"""Ordinary use of the framework by an app of somebody else's: it works, or is refused when it is registered.

Each module is a matrix of one subject: SQLAlchemy features and databases, callback kinds and places, operations on
params, the life of a generated project. A new surprise of that kind gets its test here.
"""
