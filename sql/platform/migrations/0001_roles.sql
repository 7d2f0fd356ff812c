-- Who owns, who logs in, and the record of what was applied.
--
-- Two shapes. On plain PostgreSQL a role of ours owns everything, and the schema `auth` with its roles is
-- ours too. On Supabase those exist and belong to Supabase, we are no superuser, and the migrating role
-- owns what is ours. The tell-tale is auth.users, there before us.
--
-- Runs as whoever migrates: a superuser, or the database's owner with CREATEROLE. Nothing here needs more.

DO $$
DECLARE
    hosted  CONSTANT boolean := to_regclass('auth.users') IS NOT NULL;
    logins  CONSTANT text[] := ARRAY['streamax_users', 'streamax_streams', 'streamax_monitoring', 'streamax_backup'];
    web     CONSTANT text[] := ARRAY['anon', 'authenticated', 'service_role'];
    ours    CONSTANT text[] := logins || CASE WHEN hosted THEN '{}' ELSE web || 'streamax_owner'::text END;
    -- Only a superuser may hand out BYPASSRLS on 15; without one nobody runs PostgREST here anyway.
    strong  CONSTANT boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    wanted  text;
    tainted text;
BEGIN
    -- Roles belong to the cluster: another database may have made them, or be making them now.
    FOREACH wanted IN ARRAY ours LOOP
        BEGIN
            EXECUTE format(
                'CREATE ROLE %I NOINHERIT %s %s', wanted,
                CASE WHEN wanted = ANY (logins) THEN 'LOGIN' ELSE 'NOLOGIN' END,
                CASE WHEN wanted = 'service_role' AND strong THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                RAISE DEBUG 'role % exists', wanted;
        END;
    END LOOP;

    -- A service must not be able to become, see or make more than it was granted.
    SELECT rolname INTO tainted FROM pg_roles
     WHERE rolname = ANY (logins)
       AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit);
    IF tainted IS NOT NULL THEN
        RAISE EXCEPTION 'role % exists and may do more than a service may; drop it or take its attributes away', tainted;
    END IF;

    IF hosted THEN
        CREATE SCHEMA private;
    ELSE
        -- From 16 on, who makes a role may give it to others, and must give it to himself to act as it.
        IF NOT strong THEN
            EXECUTE format('GRANT streamax_owner TO %I', current_user);
        END IF;
        CREATE SCHEMA private AUTHORIZATION streamax_owner;
        CREATE SCHEMA auth AUTHORIZATION streamax_owner;
        GRANT CREATE ON SCHEMA public TO streamax_owner;
        GRANT USAGE ON SCHEMA public, auth TO anon, authenticated, service_role;
        -- Temporary tables are how a definer function without a search_path is hijacked; no role of ours needs
        -- one. Not on Supabase, whose database is shared with services that may.
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
        SET LOCAL ROLE streamax_owner;
    END IF;
END
$$;

GRANT USAGE ON SCHEMA private TO streamax_users, streamax_streams, streamax_monitoring, streamax_backup;

CREATE TABLE private.migrations (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE private.migrations ENABLE ROW LEVEL SECURITY;
