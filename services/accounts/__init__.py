"""Users, their organizations and roles, their keys, and what is recorded of them."""
