#!/bin/sh
# The container of PostgreSQL runs this when it creates the database.
set -e
psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=password="$DATABASE_PASSWORD" --file=/roles.sql
