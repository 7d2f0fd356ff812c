-- The part of Supabase's `auth` that the rest relies on, where there is no Supabase.

DO $migration$
BEGIN
    IF to_regclass('auth.users') IS NOT NULL THEN
        RETURN;
    END IF;

    -- Accounts. `public.users` is their profile, made by the trigger on_auth_user_created.
    CREATE TABLE auth.users (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        -- Absent for accounts without one. Stored in lower case, so that A@x and a@x are one account.
        email text UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now()
    );
    ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY;

    CREATE FUNCTION auth.jwt() RETURNS jsonb
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb;

    CREATE FUNCTION auth.uid() RETURNS uuid
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid;

    CREATE FUNCTION auth.role() RETURNS text
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role';

    REVOKE ALL ON FUNCTION auth.jwt(), auth.uid(), auth.role() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION auth.jwt(), auth.uid(), auth.role() TO anon, authenticated, service_role;
END
$migration$;
