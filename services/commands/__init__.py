"""The commands of the CRM."""
