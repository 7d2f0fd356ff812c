-- What Supabase has made of a database before we come, as far as it concerns us. Run by its superuser,
-- supabase_admin, with the name of the role our migrations run as in the setting `shim.owner`; it owns the database.

DO $$
DECLARE
    wanted  record;
    migrant CONSTANT text := current_setting('shim.owner');
BEGIN
    FOR wanted IN SELECT * FROM (VALUES
        ('anon', 'NOLOGIN NOINHERIT'),
        ('authenticated', 'NOLOGIN NOINHERIT'),
        ('service_role', 'NOLOGIN NOINHERIT BYPASSRLS'),
        ('authenticator', 'LOGIN NOINHERIT'),
        ('supabase_auth_admin', 'LOGIN NOINHERIT CREATEROLE'),
        (migrant, 'LOGIN CREATEDB CREATEROLE BYPASSRLS')
    ) AS roles (name, attributes) LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.attributes);
        END IF;
    END LOOP;
    EXECUTE format('GRANT anon, authenticated, service_role TO authenticator, %I', migrant);
    -- GoTrue's; the reason why unqualified names in the seed's trigger function broke every sign-up.
    ALTER ROLE supabase_auth_admin SET search_path = auth;

    CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
    CREATE TABLE auth.users (
        id uuid PRIMARY KEY,
        email varchar(255),
        encrypted_password varchar(255),
        phone text UNIQUE,
        raw_user_meta_data jsonb,
        is_sso_user boolean NOT NULL DEFAULT false,
        is_anonymous boolean NOT NULL DEFAULT false,
        role varchar(255),
        created_at timestamptz,
        updated_at timestamptz
    );
    CREATE UNIQUE INDEX users_email_partial_key ON auth.users (email) WHERE NOT is_sso_user;
    ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;
    ALTER TABLE auth.users OWNER TO supabase_auth_admin;
    EXECUTE format('GRANT ALL ON auth.users TO %I', migrant);

    CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $f$
        SELECT coalesce(
            nullif(current_setting('request.jwt.claim.sub', true), ''),
            (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')
        )::uuid
    $f$;
    ALTER FUNCTION auth.uid() OWNER TO supabase_auth_admin;
    EXECUTE format('GRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role, %I', migrant);

    EXECUTE format('GRANT USAGE ON SCHEMA public TO anon, authenticated, service_role, %I', migrant);
    EXECUTE format('GRANT CREATE ON SCHEMA public TO %I', migrant);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role', migrant);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role', migrant);
    EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role', migrant);
END
$$;
