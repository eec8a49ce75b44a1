"""Ordinary use of the framework by other apps: each case works, or is refused when the service is registered.

Each module is a matrix of one subject: SQLAlchemy features and databases, callback kinds and places, operations on
params, the life of a generated project. A new surprise of that kind gets its test here.
"""
