-- Takes every policy and privilege of ours off tables, so that what follows in a policies.sql is the whole truth.
-- Roles an operator made, and the policies for them, stay.
CREATE OR REPLACE FUNCTION private.reset_access(VARIADIC tables text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
DECLARE
    -- All but the owner, as whom this runs. PUBLIC is role 0 to the catalogs.
    ours CONSTANT oid[] := ARRAY(
        SELECT oid FROM pg_catalog.pg_roles
         WHERE rolname IN ('anon', 'authenticated', 'service_role')
            OR (rolname LIKE 'streamax\_%' AND rolname <> current_user)) || 0::oid;
    relation text;
    policy   name;
    grantee  text;
BEGIN
    FOREACH relation IN ARRAY tables LOOP
        FOR policy IN
            SELECT polname FROM pg_catalog.pg_policy
             WHERE polrelid = relation::regclass AND polroles && ours
        LOOP
            EXECUTE pg_catalog.format('DROP POLICY %I ON %s', policy, relation);
        END LOOP;
        FOR grantee IN
            SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(role)) END
              FROM pg_catalog.unnest(ours) AS role
        LOOP
            -- Takes the columns' privileges with it.
            EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', relation, grantee);
        END LOOP;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION private.reset_access(text[]) FROM PUBLIC;
