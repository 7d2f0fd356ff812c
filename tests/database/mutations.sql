-- Ways to weaken what protects the data. Each section is a query for statements, one weakening each, over the
-- views that access.sql makes; so whatever is added to the schema is covered without a word here.
-- $1: every role that could be given too much.

-- [policy dropped]
SELECT format('DROP POLICY %I ON %s', name, relation) FROM pg_temp.policies;

-- [policy lets everybody see everything]
SELECT format('ALTER POLICY %I ON %s USING (true)', name, relation) FROM pg_temp.policies;

-- [policy lets nobody see anything]
SELECT format('ALTER POLICY %I ON %s USING (false)', name, relation) FROM pg_temp.policies;

-- [policy reversed]
SELECT format('ALTER POLICY %I ON %s USING (NOT %s)', name, relation, expression) FROM pg_temp.policies;

-- [policy lets those without an identity see everything]
SELECT format('ALTER POLICY %I ON %s USING (coalesce(%s, true))', name, relation, expression) FROM pg_temp.policies
 WHERE expression LIKE '%=%';

-- [policy asked for every row]
SELECT format('ALTER POLICY %I ON %s USING (%s)', name, relation,
              regexp_replace(expression, '\( SELECT ([a-z_.]+\(\)) AS [a-z_]+\)', '\1'))
  FROM pg_temp.policies;

-- [policy for every role]
SELECT format('ALTER POLICY %I ON %s TO PUBLIC', name, relation) FROM pg_temp.policies;

-- [policy for another role]
SELECT format('ALTER POLICY %I ON %s TO streamax_backup', name, relation) FROM pg_temp.policies;

-- [policy for every verb]
SELECT format('DROP POLICY %1$I ON %2$s; CREATE POLICY %1$I ON %2$s FOR ALL TO %3$s USING (%4$s)', name, relation,
              (SELECT string_agg(rolname, ', ') FROM pg_roles WHERE oid = ANY (roles)), expression)
  FROM pg_temp.policies;

-- [policy added]
SELECT format('CREATE POLICY more ON %s FOR SELECT USING (true)', name) FROM pg_temp.relations WHERE is_table;

-- [row security off]
SELECT format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', name) FROM pg_temp.relations WHERE is_table;

-- [row security forced]
SELECT format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name) FROM pg_temp.relations WHERE is_table;

-- [relation belongs to a service]
SELECT format('ALTER %s %s OWNER TO streamax_streams', CASE kind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, name)
  FROM pg_temp.relations;

-- [view with the rights of its owner]
SELECT format('ALTER VIEW %s RESET (security_invoker)', name) FROM pg_temp.relations WHERE kind = 'v';

-- [privilege on a relation taken]
SELECT format('REVOKE %s ON %s FROM %I', privilege_type, name, grantee::regrole)
  FROM pg_temp.relations, aclexplode(acl) WHERE grantee NOT IN (0, owner);

-- [privilege on a column taken]
SELECT format('REVOKE %s (%I) ON %s FROM %I', privilege_type, name, relation, grantee::regrole)
  FROM pg_temp.columns, aclexplode(acl) WHERE grantee <> owner;

-- [privilege on a relation given]
-- One verb for each relation and role, each in its turn: all seven would be 1,200 statements that prove no more.
SELECT format('GRANT %s ON %s TO %s', verb, name, role)
  FROM pg_temp.relations, unnest($1::text[]) WITH ORDINALITY AS roles (role, turn),
       unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
           WITH ORDINALITY AS verbs (verb, place)
 WHERE place = 1 + (turn + abs(hashtext(name))) % 7 AND NOT has_table_privilege(role, oid, verb);

-- [privilege on a column given]
SELECT format('GRANT %s (%I) ON %s TO %s', verb, name, relation, role)
  FROM pg_temp.columns, unnest($1::text[]) AS role, unnest(ARRAY['SELECT', 'UPDATE']) AS verb
 WHERE has_any_column_privilege(role, oid, verb) AND NOT has_column_privilege(role, oid, number, verb);

-- [function with rights of the other kind]
SELECT format('ALTER FUNCTION %s SECURITY %s', signature, CASE WHEN definer THEN 'INVOKER' ELSE 'DEFINER' END)
  FROM pg_temp.functions;

-- [function that looks where its caller says]
SELECT format('ALTER FUNCTION %s RESET search_path', signature) FROM pg_temp.functions WHERE config IS NOT NULL;

-- [function that looks in public]
SELECT format('ALTER FUNCTION %s SET search_path = public', signature) FROM pg_temp.functions WHERE config IS NOT NULL;

-- [function given]
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s', signature, role)
  FROM pg_temp.functions, unnest($1::text[]) AS role WHERE NOT has_function_privilege(role, oid, 'EXECUTE');

-- [function taken]
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM %I', signature, grantee::regrole)
  FROM pg_temp.functions, aclexplode(acl) WHERE grantee NOT IN (0, owner);

-- [function belongs to a service]
SELECT format('ALTER FUNCTION %s OWNER TO streamax_streams', signature) FROM pg_temp.functions;

-- [definer outside private]
SELECT format('ALTER FUNCTION %s SET SCHEMA public', signature) FROM pg_temp.functions WHERE definer;

-- [trigger off]
SELECT format('ALTER TABLE %s DISABLE TRIGGER %I', relation, name) FROM pg_temp.triggers;

-- [trigger dropped]
SELECT format('DROP TRIGGER %I ON %s', name, relation) FROM pg_temp.triggers;

-- [schema opened]
SELECT format('GRANT %s ON SCHEMA %I TO %s', verb, nspname, role)
  FROM pg_namespace, unnest($1::text[]) AS role, unnest(ARRAY['USAGE', 'CREATE']) AS verb
 WHERE nspname IN ('public', 'private') AND NOT has_schema_privilege(role, oid, verb);

-- [schema closed]
SELECT format('REVOKE USAGE ON SCHEMA private FROM %I', grantee::regrole)
  FROM pg_namespace, aclexplode(nspacl) WHERE nspname = 'private' AND grantee NOT IN (0, nspowner);

-- [role stronger]
SELECT format('ALTER ROLE %I %s', rolname, strength)
  FROM pg_roles,
       unnest(ARRAY['SUPERUSER', 'BYPASSRLS', 'CREATEROLE', 'CREATEDB', 'REPLICATION', 'INHERIT']) AS strength
 WHERE rolname = ANY ($1) AND rolname LIKE 'streamax%';

-- [role in the place of another]
SELECT format('GRANT %I TO %I', stronger.rolname, weaker.rolname)
  FROM pg_roles stronger, pg_roles weaker
 WHERE (stronger.rolname = ANY ($1 || ARRAY['pg_read_all_data']) OR stronger.oid = (SELECT oid FROM pg_temp.owner))
   AND weaker.rolname = ANY ($1) AND weaker.rolname <> 'service_role' AND weaker.oid <> stronger.oid
   -- Whoever made a role is its member, and membership goes one way.
   AND NOT pg_has_role(stronger.oid, weaker.oid, 'MEMBER');

-- [what is made later is given by default]
SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA private GRANT ALL ON TABLES TO %s', oid::regrole, role)
  FROM pg_temp.owner, unnest($1::text[]) AS role;
