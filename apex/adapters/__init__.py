"""Adapters: services whose records lie in a store."""
