"""Accounts: users, organizations, memberships, API keys, authentication and the audit."""
