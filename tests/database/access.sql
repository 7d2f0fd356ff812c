-- What access.py asks of a database. Every section is one statement or script, named by its heading.

-- [ready] Views of what is ours, for the questions below and the mutations; names come out qualified.
SET search_path = '';
CREATE TEMP VIEW relations AS
    SELECT c.oid, c.oid::regclass::text AS name, c.relkind AS kind, c.relowner AS owner, c.relacl AS acl,
           c.relkind IN ('r', 'p') AS is_table, c.relrowsecurity AS secured, c.relforcerowsecurity AS forced,
           coalesce(c.reloptions, '{}') AS options
      FROM pg_class c
     WHERE c.relnamespace IN ('public'::regnamespace, 'private'::regnamespace)
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S');
CREATE TEMP VIEW columns AS
    SELECT r.name AS relation, r.oid, r.kind, r.owner, a.attname::text AS name, a.attnum AS number, a.attacl AS acl
      FROM pg_temp.relations r JOIN pg_attribute a ON a.attrelid = r.oid
     WHERE a.attnum > 0 AND NOT a.attisdropped AND r.kind <> 'S';
CREATE TEMP VIEW functions AS
    SELECT p.oid, p.oid::regprocedure::text AS signature, p.pronamespace::regnamespace || '.' || p.proname AS name,
           p.prosecdef AS definer, p.proowner AS owner, p.proacl AS acl, p.proconfig AS config,
           coalesce('search_path=""' = ANY (p.proconfig), false) AS emptied,
           -- What was bound when it was made looks nowhere later.
           p.prosqlbody IS NOT NULL AS bound
      FROM pg_proc p WHERE p.pronamespace IN ('public'::regnamespace, 'private'::regnamespace);
CREATE TEMP VIEW policies AS
    SELECT p.polname::text AS name, r.name AS relation, pg_get_expr(p.polqual, p.polrelid) AS expression,
           p.polcmd AS command, p.polpermissive AS permissive, p.polroles AS roles
      FROM pg_policy p JOIN pg_temp.relations r ON r.oid = p.polrelid;
CREATE TEMP VIEW triggers AS
    SELECT t.tgname::text AS name, t.tgrelid::regclass::text AS relation, t.tgenabled = 'O' AS enabled
      FROM pg_trigger t JOIN pg_temp.functions f ON f.oid = t.tgfoid
     WHERE NOT t.tgisinternal;
CREATE TEMP VIEW owner AS
    SELECT nspowner AS oid FROM pg_namespace WHERE nspname = 'private';

-- Looks at each relation with the rights of a role and the identity of a viewer: whose rows are seen. One call for
-- all looks; a role that is refused is an answer, not the end of the transaction.
CREATE FUNCTION pg_temp.look(relations text[], roles text[], viewers uuid[])
RETURNS TABLE (place integer, seen uuid[], refusal text) LANGUAGE plpgsql AS $$
DECLARE
    -- Where the owner of a row is found; [belongings] gives a session and a backup the id of their owner.
    key CONSTANT jsonb := '{"public.users": "id", "private.accounts": "id",
                            "public.backup_metadata": "id", "private.session_delivery": "session_id"}';
BEGIN
    FOR step IN 1 .. cardinality(relations) LOOP
        place := step;
        seen := NULL;
        refusal := NULL;
        BEGIN
            PERFORM set_config('streamax.caller', coalesce(viewers[step]::text, ''), true);
            PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', viewers[step])::text, true);
            PERFORM set_config('role', roles[step], true);
            EXECUTE format('SELECT coalesce(array_agg(DISTINCT %s::uuid), %L) FROM %s',
                           coalesce(key ->> relations[step], 'user_id'), '{}', relations[step]) INTO seen;
        EXCEPTION WHEN OTHERS THEN
            refusal := SQLERRM;
        END;
        PERFORM set_config('role', 'none', true);
        RETURN NEXT;
    END LOOP;
END
$$;

-- [belongings] One row in everything that a policy guards.
BEGIN;
UPDATE public.users SET streams_active = 1, revision = 1 WHERE id = :uid;
INSERT INTO public.stream_sessions
       (id, user_id, rtmp_url, video_source, status, desired_status, slot_held, target_hash, revision)
VALUES (:uid, :uid, 'rtmp://a.example/live', 'film.mp4', 'starting', 'running', true, :uid::text::bytea, 1);
INSERT INTO private.session_delivery (session_id, generation) VALUES (:uid, 0);
INSERT INTO private.session_changes (user_id, revision, session_id, kind, snapshot)
VALUES (:uid, 1, :uid, 'added', '{}');
INSERT INTO public.stream_requests (user_id, rtmp_url, video_source, title)
VALUES (:uid, 'rtmp://a.example/live', 'film.mp4', 'A film');
INSERT INTO public.user_activities (user_id, action) VALUES (:uid, 'login');
INSERT INTO public.error_logs (user_id, message, "timestamp") VALUES (:uid, 'oh', now());
INSERT INTO public.performance_metrics (user_id, name, value, "timestamp") VALUES (:uid, 'load', 1, now());
INSERT INTO public.backup_metadata (id) VALUES (:uid::text);
COMMIT;

-- [columns] Every relation and column there is. auth.users is not ours everywhere, but what may be done to it is.
SELECT relation, name FROM pg_temp.columns
UNION ALL
SELECT 'auth.users', attname::text FROM pg_attribute
 WHERE attrelid = 'auth.users'::regclass AND attnum > 0 AND NOT attisdropped;

-- [cells] Every privilege each of the roles ($1) has, through whatever grant or membership.
WITH places AS (
    SELECT oid, name FROM pg_temp.relations WHERE kind <> 'S'
    UNION ALL
    SELECT 'auth.users'::regclass, 'auth.users'
), roles AS (
    SELECT unnest($1::text[]) AS role
)
SELECT name, role, verb, attname::text FROM places, roles, pg_attribute,
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS verb
 WHERE attrelid = places.oid AND attnum > 0 AND NOT attisdropped
   AND has_any_column_privilege(role, places.oid, verb)
   AND has_column_privilege(role, places.oid, attnum, verb)
UNION ALL
-- On the whole relation: on columns to come, too.
SELECT name, role, verb, '*' FROM places, roles, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS verb
 WHERE has_table_privilege(role, places.oid, verb)
UNION ALL
-- What is for whole rows; the last three no policy guards.
SELECT name, role, verb, '' FROM places, roles, unnest(ARRAY['DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS verb
 WHERE has_table_privilege(role, places.oid, verb)
    OR (verb = 'REFERENCES' AND has_any_column_privilege(role, places.oid, verb));

-- [functions] Every function, and which of the roles ($1) may call it.
SELECT name, definer, ARRAY(SELECT role FROM unnest($1::text[]) AS role
                             WHERE has_function_privilege(role, oid, 'EXECUTE')) AS roles
  FROM pg_temp.functions;

-- [schemas] Which of the roles ($1) may do what with the schemas.
SELECT nspname AS name, role, verb
  FROM pg_namespace, unnest($1::text[]) AS role, unnest(ARRAY['USAGE', 'CREATE']) AS verb
 WHERE nspname IN ('public', 'private', 'auth') AND has_schema_privilege(role, oid, verb);

-- [lints] What must never be, whatever access.txt says. $1: the service roles.
SELECT 'row security is off: ' || name AS finding FROM pg_temp.relations WHERE is_table AND NOT secured
UNION ALL
SELECT 'row security is forced, which would blind private.is_admin: ' || name FROM pg_temp.relations WHERE forced
UNION ALL
SELECT 'view with the rights of its owner: ' || name FROM pg_temp.relations
 WHERE kind IN ('v', 'm') AND NOT options && ARRAY['security_invoker=on', 'security_invoker=true']
UNION ALL
SELECT 'belongs to somebody else: ' || relations.name FROM pg_temp.relations, pg_temp.owner
 WHERE relations.owner <> owner.oid
UNION ALL
SELECT 'belongs to somebody else: ' || signature FROM pg_temp.functions, pg_temp.owner
 WHERE functions.owner <> owner.oid
UNION ALL
SELECT 'sequence, which needs privileges of its own: ' || name FROM pg_temp.relations WHERE kind = 'S'
UNION ALL
SELECT 'function that looks where its caller says: ' || signature FROM pg_temp.functions WHERE NOT (emptied OR bound)
UNION ALL
SELECT 'definer without an empty search_path: ' || signature FROM pg_temp.functions WHERE definer AND NOT emptied
UNION ALL
SELECT 'definer outside private: ' || signature FROM pg_temp.functions WHERE definer AND name NOT LIKE 'private.%'
UNION ALL
SELECT 'policy that does more than let read: ' || name || ' on ' || relation FROM pg_temp.policies
 WHERE command <> 'r' OR NOT permissive
UNION ALL
SELECT 'policy for everybody: ' || name || ' on ' || relation FROM pg_temp.policies WHERE 0 = ANY (roles)
UNION ALL
-- A call inside (SELECT ...) is made once per statement, any other once per row.
SELECT 'policy that calls a function for every row: ' || name || ' on ' || relation FROM pg_temp.policies
 WHERE regexp_replace(expression, '\( SELECT [a-z_.]+\(\) AS [a-z_]+\)', '', 'g') ~ '[a-z_]\('
UNION ALL
SELECT 'foreign key without an index: ' || conname || ' on ' || name
  FROM pg_constraint JOIN pg_temp.relations ON relations.oid = conrelid
 WHERE contype = 'f' AND NOT EXISTS (
       SELECT FROM pg_index i WHERE i.indrelid = conrelid AND i.indkey[0] = conkey[1]
          AND (i.indpred IS NULL OR pg_get_expr(i.indpred, i.indrelid) LIKE '%IS NOT NULL%'))
UNION ALL
SELECT 'owner of everything that is more than an owner: ' || rolname FROM pg_roles JOIN pg_temp.owner USING (oid)
 WHERE rolname LIKE 'streamax%' AND (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)
UNION ALL
SELECT 'service role that may do too much: ' || rolname FROM pg_roles
 WHERE rolname = ANY ($1)
   AND (rolsuper OR rolinherit OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
UNION ALL
SELECT 'web role that may do too much: ' || rolname FROM pg_roles
 WHERE rolname IN ('anon', 'authenticated') AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)
UNION ALL
SELECT rolname || ' is a member of ' || roleid::regrole FROM pg_auth_members JOIN pg_roles ON pg_roles.oid = member
 WHERE rolname = ANY ($1 || ARRAY['anon', 'authenticated'])
UNION ALL
SELECT 'privileges by default in private, by ' || defaclrole::regrole FROM pg_default_acl
 WHERE defaclnamespace = 'private'::regnamespace;
