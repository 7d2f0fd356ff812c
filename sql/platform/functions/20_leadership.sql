-- The next epoch of a leadership. The caller holds the advisory lock that makes it the leader; the epoch fences
-- off what its predecessor may still be doing.
CREATE OR REPLACE FUNCTION private.take_leadership(name text, holder text) RETURNS bigint
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
DECLARE
    taken bigint;
BEGIN
    INSERT INTO private.leaderships AS leadership (name, epoch, holder)
    VALUES (take_leadership.name, 1, take_leadership.holder)
    ON CONFLICT ON CONSTRAINT leaderships_pkey
    DO UPDATE SET epoch = leadership.epoch + 1, holder = excluded.holder, since = now()
    RETURNING leadership.epoch INTO taken;
    RETURN taken;
END
$$;
REVOKE ALL ON FUNCTION private.take_leadership(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION private.take_leadership(text, text)
    TO streamax_users, streamax_streams, streamax_monitoring, streamax_backup;
