"""The services, one module for each."""
