-- What the platform's tables allow: nothing but what its functions do.

SELECT private.reset_access('private.migrations', 'private.idempotency', 'private.leaderships');

-- For the keys of rows that existing back ends insert with Supabase's service key; a default runs as who inserts.
GRANT EXECUTE ON FUNCTION private.uuid7() TO service_role;
