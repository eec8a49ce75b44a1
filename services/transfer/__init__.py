"""Import and export of CSV and JSON, by the API and by commands."""
