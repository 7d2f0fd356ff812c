-- Whom a statement is for, how it is refused, and how a user's changes are numbered.

-- The caller that a reading function has named for this transaction; NULL where none has. Policies compare
-- against (SELECT private.caller()), once per statement. Not definer and without settings of its own, so that it
-- is inlined; its body was bound to pg_catalog when it was made.
CREATE OR REPLACE FUNCTION private.caller() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(pg_catalog.current_setting('streamax.caller', true), '')::pg_catalog.uuid;
REVOKE ALL ON FUNCTION private.caller() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION private.caller()
    TO streamax_users, streamax_streams, streamax_monitoring, streamax_backup;

-- Refuse with a reason of streamax.common.v1.ErrorReason and its metadata, an object of strings.
CREATE OR REPLACE FUNCTION private.refuse(reason text, metadata jsonb DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'SX001', MESSAGE = reason, DETAIL = metadata::text;
END
$$;
REVOKE ALL ON FUNCTION private.refuse(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION private.refuse(text, jsonb)
    TO streamax_users, streamax_streams, streamax_monitoring, streamax_backup;

-- The next revision of a user, and the lock under which the change it numbers must be written. For definer
-- functions only.
CREATE OR REPLACE FUNCTION private.bump_revision(uid uuid) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
DECLARE
    bumped bigint;
BEGIN
    UPDATE public.users SET revision = revision + 1 WHERE id = uid RETURNING revision INTO bumped;
    IF bumped IS NULL THEN
        PERFORM private.refuse('RESOURCE_NOT_FOUND', pg_catalog.jsonb_build_object('type', 'User', 'name', uid));
    END IF;
    RETURN bumped;
END
$$;
REVOKE ALL ON FUNCTION private.bump_revision(uuid) FROM PUBLIC;
