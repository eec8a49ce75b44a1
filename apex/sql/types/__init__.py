"""Column types: the registry, the types of SQLAlchemy, and those of apex."""
