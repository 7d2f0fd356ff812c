-- The functions existing clients call, under their old names and signatures; the work is done in `private`, out of
-- PostgREST's reach. Only service_role may: the seed let everybody, signed in or not, change anybody's count.

CREATE OR REPLACE FUNCTION private.take_legacy_slot(taker uuid) RETURNS void
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    UPDATE public.users SET streams_active = streams_active + 1
     WHERE id = taker
       AND package_type IS NOT NULL
       AND (package_expires_at IS NULL OR package_expires_at > pg_catalog.now())
       AND streams_active < streams_allowed;
    IF NOT FOUND THEN
        PERFORM private.refuse_slot(taker);
    END IF;
    INSERT INTO private.legacy_slots AS slots (user_id, taken) VALUES (taker, 1)
    ON CONFLICT (user_id) DO UPDATE SET taken = slots.taken + 1;
END
$$;

-- Gives back what take_legacy_slot took, never the slot of a session: that one belongs to a container.
CREATE OR REPLACE FUNCTION private.give_legacy_slot(giver uuid) RETURNS void
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    PERFORM FROM public.users WHERE id = giver FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        PERFORM private.refuse_slot(giver);
    END IF;
    DELETE FROM private.legacy_slots WHERE user_id = giver AND taken = 1;
    IF NOT FOUND THEN
        UPDATE private.legacy_slots SET taken = taken - 1 WHERE user_id = giver;
    END IF;
    IF FOUND THEN
        UPDATE public.users SET streams_active = streams_active - 1 WHERE id = giver;
    END IF;
END
$$;

-- Asks for the stop of sessions that have been starting for five minutes without a container or any change. It
-- frees nothing itself: a launch may be on its way, and only the reconciler can know that no container lives; it
-- frees the slot then. Returns how many it asked for.
CREATE OR REPLACE FUNCTION private.stop_stuck_sessions() RETURNS integer
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
DECLARE
    stuck record;
    asked integer := 0;
BEGIN
    -- By user: two runs at once lock in the same order. The user's row first, as everywhere.
    FOR stuck IN
        SELECT id, user_id FROM public.stream_sessions
         WHERE slot_held AND status = 'starting' AND container_id IS NULL
           AND updated_at < pg_catalog.now() - interval '5 minutes'
         ORDER BY user_id, id
    LOOP
        PERFORM FROM public.users WHERE id = stuck.user_id FOR NO KEY UPDATE;
        UPDATE public.stream_sessions
           SET desired_status = 'stopped', status = 'stopping', cause = 'host_lost',
               cause_detail = 'No container could be started for five minutes.',
               revision = private.bump_revision(stuck.user_id)
         WHERE id = stuck.id AND status = 'starting' AND container_id IS NULL
           AND updated_at < pg_catalog.now() - interval '5 minutes';
        IF FOUND THEN
            PERFORM private.record_change(stuck.id, 'modified');
            asked := asked + 1;
        END IF;
    END LOOP;
    RETURN asked;
END
$$;

CREATE OR REPLACE FUNCTION public.increment_user_streams(user_id uuid) RETURNS void
    LANGUAGE sql VOLATILE
    BEGIN ATOMIC
        SELECT private.take_legacy_slot(user_id);
    END;

CREATE OR REPLACE FUNCTION public.decrement_user_streams(user_id uuid) RETURNS void
    LANGUAGE sql VOLATILE
    BEGIN ATOMIC
        SELECT private.give_legacy_slot(user_id);
    END;

CREATE OR REPLACE FUNCTION public.cleanup_orphaned_streams() RETURNS integer
    LANGUAGE sql VOLATILE
    RETURN private.stop_stuck_sessions();

-- Supabase grants functions in `public` to anon and authenticated by name, PUBLIC or not.
REVOKE ALL ON FUNCTION
    private.take_legacy_slot(uuid), private.give_legacy_slot(uuid), private.stop_stuck_sessions(),
    public.increment_user_streams(uuid), public.decrement_user_streams(uuid), public.cleanup_orphaned_streams()
FROM PUBLIC, anon, authenticated, service_role;
GRANT EXECUTE ON FUNCTION
    private.take_legacy_slot(uuid), private.give_legacy_slot(uuid), private.stop_stuck_sessions(),
    public.increment_user_streams(uuid), public.decrement_user_streams(uuid), public.cleanup_orphaned_streams()
TO service_role;
