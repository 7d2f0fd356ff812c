-- What no caller of ours, however wrong, can do to a session or to a count of slots.

-- Legal changes of a session. Final is final; what identifies a session never changes; generation and revision
-- only grow. Times are put in order rather than refused: the encoder's and the engine's clocks are not ours.
CREATE OR REPLACE FUNCTION private.guard_session() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.slot_held THEN
            PERFORM private.refuse('STATE_CONFLICT', pg_catalog.jsonb_build_object('status', OLD.status));
        END IF;
        RETURN OLD;
    ELSIF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'starting' THEN
            PERFORM private.refuse('STATE_CONFLICT', pg_catalog.jsonb_build_object('status', NEW.status));
        END IF;
        RETURN NEW;
    END IF;

    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('starting', 'running'), ('starting', 'stopping'), ('starting', 'error'),
        ('running', 'starting'), ('running', 'stopping'), ('running', 'error'),
        ('stopping', 'stopped'), ('stopping', 'error')
    ) THEN
        PERFORM private.refuse('STATE_CONFLICT', pg_catalog.jsonb_build_object('status', OLD.status));
    END IF;
    IF (NEW.id, NEW.user_id, NEW.rtmp_url, NEW.video_source, NEW.created_at, NEW.target_hash, NEW.request_id)
       IS DISTINCT FROM
       (OLD.id, OLD.user_id, OLD.rtmp_url, OLD.video_source, OLD.created_at, OLD.target_hash, OLD.request_id) THEN
        RAISE EXCEPTION 'what identifies a session never changes' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.generation < OLD.generation OR NEW.revision < OLD.revision THEN
        RAISE EXCEPTION 'generation and revision only grow' USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.desired_status = 'stopped' AND NEW.desired_status = 'running' THEN
        PERFORM private.refuse('STATE_CONFLICT', pg_catalog.jsonb_build_object('status', OLD.status));
    END IF;
    IF NEW.started_at < NEW.created_at THEN
        NEW.started_at := NEW.created_at;
    END IF;
    IF NEW.stopped_at < coalesce(NEW.started_at, NEW.created_at) THEN
        NEW.stopped_at := coalesce(NEW.started_at, NEW.created_at);
    END IF;
    NEW.updated_at := pg_catalog.now();
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION private.guard_session() FROM PUBLIC;
CREATE OR REPLACE TRIGGER guard_session BEFORE INSERT OR UPDATE OR DELETE ON public.stream_sessions
    FOR EACH ROW EXECUTE FUNCTION private.guard_session();

-- The owner of a session's figures, for those who write only the figures.
CREATE OR REPLACE FUNCTION private.own_delivery() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    SELECT user_id INTO NEW.user_id FROM public.stream_sessions WHERE id = NEW.session_id;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION private.own_delivery() FROM PUBLIC;
CREATE OR REPLACE TRIGGER own_delivery BEFORE INSERT ON private.session_delivery
    FOR EACH ROW EXECUTE FUNCTION private.own_delivery();

-- Users whose count is not what is held. Always empty; whoever looks is testing or worried.
CREATE OR REPLACE FUNCTION private.slot_drift()
RETURNS TABLE (user_id uuid, streams_active integer, sessions bigint, legacy integer)
    LANGUAGE plpgsql STABLE
    SECURITY DEFINER
    SET search_path = ''
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
        SELECT account.id, account.streams_active, coalesce(held.sessions, 0), coalesce(slots.taken, 0)
          FROM public.users account
          LEFT JOIN (SELECT user_id, count(*) AS sessions FROM public.stream_sessions
                      WHERE slot_held GROUP BY user_id) held ON held.user_id = account.id
          LEFT JOIN private.legacy_slots slots ON slots.user_id = account.id
         WHERE account.streams_active <> coalesce(held.sessions, 0) + coalesce(slots.taken, 0);
END
$$;
REVOKE ALL ON FUNCTION private.slot_drift() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION private.slot_drift() TO streamax_streams, streamax_monitoring;

-- No transaction commits that leaves the count and the slots apart. At commit, because they change one after the
-- other; sound under READ COMMITTED, because whoever changes the count holds the user's row until then. Definer,
-- because at commit the functions that made the change, and their rights, are gone.
CREATE OR REPLACE FUNCTION private.refuse_slot_drift() RETURNS trigger
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
DECLARE
    uid     uuid;
    counted integer;
    held    bigint;
BEGIN
    IF TG_TABLE_NAME = 'users' THEN
        uid := NEW.id;
    ELSIF TG_OP = 'DELETE' THEN
        uid := OLD.user_id;
    ELSE
        uid := NEW.user_id;
    END IF;
    SELECT account.streams_active,
           (SELECT count(*) FROM public.stream_sessions session WHERE session.user_id = uid AND session.slot_held)
           + coalesce((SELECT slots.taken FROM private.legacy_slots slots WHERE slots.user_id = uid), 0)
      INTO counted, held
      FROM public.users account WHERE account.id = uid;
    IF counted <> held THEN
        RAISE EXCEPTION 'streams_active would be % with % slots held', counted, held
            USING ERRCODE = 'check_violation', CONSTRAINT = 'slot_drift';
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION private.refuse_slot_drift() FROM PUBLIC;

-- OR REPLACE is not to be had for constraint triggers.
DROP TRIGGER IF EXISTS slot_drift_on_insert ON public.stream_sessions;
DROP TRIGGER IF EXISTS slot_drift_on_update ON public.stream_sessions;
DROP TRIGGER IF EXISTS slot_drift ON private.legacy_slots;
DROP TRIGGER IF EXISTS slot_drift_on_insert ON public.users;
DROP TRIGGER IF EXISTS slot_drift_on_update ON public.users;
CREATE CONSTRAINT TRIGGER slot_drift_on_insert AFTER INSERT ON public.stream_sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.slot_held)
    EXECUTE FUNCTION private.refuse_slot_drift();
CREATE CONSTRAINT TRIGGER slot_drift_on_update AFTER UPDATE ON public.stream_sessions
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.slot_held <> NEW.slot_held)
    EXECUTE FUNCTION private.refuse_slot_drift();
CREATE CONSTRAINT TRIGGER slot_drift AFTER INSERT OR UPDATE OR DELETE ON private.legacy_slots
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION private.refuse_slot_drift();
CREATE CONSTRAINT TRIGGER slot_drift_on_insert AFTER INSERT ON public.users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.streams_active <> 0)
    EXECUTE FUNCTION private.refuse_slot_drift();
CREATE CONSTRAINT TRIGGER slot_drift_on_update AFTER UPDATE ON public.users
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.streams_active <> NEW.streams_active)
    EXECUTE FUNCTION private.refuse_slot_drift();
