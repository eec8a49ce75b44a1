-- The roles of an apex database. An administrator runs this once in a database, before the first migration:
--
--   psql --dbname=apex --file=deploy/roles.sql
--
-- apex_owner  owns the database and migrates it
-- apex        serves: the user of DATABASE_URL
-- apex_tenant runs the statements: it owns no table and cannot bypass row-level security
--
-- Roles belong to the whole server. Existing roles are not changed. With --set=password=... both users get this password.

\set ON_ERROR_STOP on

DO $$
DECLARE wanted record;
BEGIN
    FOR wanted IN VALUES ('apex_owner', 'LOGIN'), ('apex', 'LOGIN'), ('apex_tenant', 'NOLOGIN') LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS',
                           wanted.column1, wanted.column2);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
    IF NOT pg_has_role('apex_owner', 'apex_tenant', 'MEMBER') OR NOT pg_has_role('apex', 'apex_tenant', 'MEMBER') THEN
        GRANT apex_tenant TO apex_owner, apex;
    END IF;
END $$;

\if :{?password}
    ALTER ROLE apex_owner PASSWORD :'password';
    ALTER ROLE apex PASSWORD :'password';
\endif

ALTER DATABASE :"DBNAME" OWNER TO apex_owner;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO apex_owner WITH GRANT OPTION;
