#!/bin/sh
# Run by the container of PostgreSQL when its database is made.
set -e
psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=password="$DATABASE_PASSWORD" --file=/roles.sql
