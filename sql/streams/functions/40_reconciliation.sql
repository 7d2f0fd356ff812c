-- What the streams service does as itself, for all users: SECURITY DEFINER, and
-- executable by its role alone. Writes are fenced twice: by the epoch of the loop
-- leader, so a leader that was replaced writes nothing, and by the session's
-- generation, so a late report of an old encoder changes nothing.

CREATE OR REPLACE FUNCTION private.require_epoch(p_epoch bigint)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  -- FOR SHARE: a successor's epoch waits until what this one writes is committed.
  PERFORM 1 FROM private.leaderships l
    WHERE l.name = 'streams' AND l.epoch = p_epoch FOR SHARE;
  IF NOT FOUND THEN
    PERFORM private.refuse('STATE_CONFLICT', pg_catalog.jsonb_build_object('status', 'leadership lost'));
  END IF;
END;
$$;

-- Every session whose slot is held, that is: whose container may exist.
CREATE OR REPLACE FUNCTION private.held_sessions()
RETURNS TABLE (
  id uuid, user_id uuid, status text, desired_status text, cause text, cause_detail text,
  container_id text, generation bigint, started_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
AS $$
  SELECT s.id, s.user_id, s.status, s.desired_status, s.cause, s.cause_detail, s.container_id,
         s.generation, s.started_at
    FROM public.stream_sessions s WHERE s.slot_held;
$$;

-- What launching a session needs. With p_renew the next generation is taken first,
-- so no two containers ever share one. No row: it is no longer wanted, or moved on.
CREATE OR REPLACE FUNCTION private.take_order(
  p_epoch bigint, p_session_id uuid, p_generation bigint, p_renew boolean)
RETURNS TABLE (
  session_id uuid, user_id uuid, generation bigint, rtmp_url text, video_source text, sealed_key bytea)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  owner uuid;
BEGIN
  PERFORM private.require_epoch(p_epoch);
  IF p_renew THEN
    SELECT s.user_id INTO owner FROM public.stream_sessions s WHERE s.id = p_session_id;
    PERFORM 1 FROM public.users u WHERE u.id = owner FOR NO KEY UPDATE;
    UPDATE public.stream_sessions s
       SET generation = s.generation + 1, container_id = NULL, revision = private.bump_revision(owner)
     WHERE s.id = p_session_id AND s.generation = p_generation
       AND s.desired_status = 'running' AND s.slot_held;
    IF NOT FOUND THEN
      RETURN;
    END IF;
    PERFORM private.record_change(p_session_id, 'modified');
  END IF;
  RETURN QUERY
    SELECT s.id, s.user_id, s.generation, s.rtmp_url, s.video_source, k.sealed_key
      FROM public.stream_sessions s JOIN private.session_secrets k ON k.session_id = s.id
     WHERE s.id = p_session_id AND s.desired_status = 'running' AND s.slot_held
       AND s.generation = p_generation + p_renew::integer;
END;
$$;

-- Writes down what was seen of a session. A final status frees the slot and
-- forgets the key. False: the session has moved on and nothing was written.
CREATE OR REPLACE FUNCTION private.record_observation(
  p_epoch bigint, p_session_id uuid, p_generation bigint, p_status text, p_cause text,
  p_cause_detail text, p_container_id text, p_started_at timestamptz)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  session public.stream_sessions;
  final boolean := p_status IN ('stopped', 'error');
BEGIN
  PERFORM private.require_epoch(p_epoch);
  PERFORM 1 FROM public.users u
    WHERE u.id = (SELECT s.user_id FROM public.stream_sessions s WHERE s.id = p_session_id)
      FOR NO KEY UPDATE;
  SELECT * INTO session FROM public.stream_sessions s WHERE s.id = p_session_id FOR NO KEY UPDATE;
  IF NOT FOUND OR NOT session.slot_held OR session.generation <> p_generation
     OR (session.desired_status = 'stopped' AND NOT final) THEN
    RETURN false;
  END IF;
  UPDATE public.stream_sessions s
     SET status = p_status, cause = p_cause, cause_detail = p_cause_detail,
         container_id = p_container_id,
         -- By the encoder's clock, which may be behind ours; greatest() would pass over a NULL.
         started_at = coalesce(s.started_at, p_started_at + greatest(s.created_at - p_started_at, '0')),
         stopped_at = CASE WHEN final THEN greatest(pg_catalog.now(), s.started_at, p_started_at) END,
         desired_status = CASE WHEN final THEN 'stopped' ELSE s.desired_status END,
         slot_held = NOT final,
         revision = private.bump_revision(session.user_id)
   WHERE s.id = p_session_id;
  IF final THEN
    UPDATE public.users u SET streams_active = u.streams_active - 1 WHERE u.id = session.user_id;
    DELETE FROM private.session_secrets k WHERE k.session_id = p_session_id;
  END IF;
  PERFORM private.record_change(p_session_id, 'modified');
  RETURN true;
END;
$$;

-- Counters of many encoders in one statement. A higher generation moves what the
-- one before delivered into the earlier_ columns; a lower one is too late.
CREATE OR REPLACE FUNCTION private.record_delivery(
  p_epoch bigint, p_session_ids uuid[], p_generations bigint[], p_seconds double precision[],
  p_bytes bigint[], p_bitrates double precision[], p_attempts integer[], p_measured timestamptz[])
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  PERFORM private.require_epoch(p_epoch);
  INSERT INTO private.session_delivery AS d
    (session_id, user_id, generation, delivered_seconds, acknowledged_bytes, bitrate_kbps, attempts,
     measured_at)
  SELECT m.session_id, s.user_id, m.generation, m.seconds, m.bytes, m.bitrate, m.attempts, m.measured
    FROM unnest(
           p_session_ids, p_generations, p_seconds, p_bytes, p_bitrates, p_attempts, p_measured)
         AS m (session_id, generation, seconds, bytes, bitrate, attempts, measured)
    JOIN public.stream_sessions s ON s.id = m.session_id
   ORDER BY m.session_id
  ON CONFLICT (session_id) DO UPDATE
     SET earlier_seconds = CASE WHEN EXCLUDED.generation > d.generation
           THEN d.delivered_seconds ELSE d.earlier_seconds END,
         earlier_bytes = CASE WHEN EXCLUDED.generation > d.generation
           THEN d.acknowledged_bytes ELSE d.earlier_bytes END,
         earlier_attempts = CASE WHEN EXCLUDED.generation > d.generation
           THEN d.attempts ELSE d.earlier_attempts END,
         delivered_seconds = EXCLUDED.delivered_seconds + CASE WHEN EXCLUDED.generation > d.generation
           THEN d.delivered_seconds ELSE d.earlier_seconds END,
         acknowledged_bytes = EXCLUDED.acknowledged_bytes + CASE WHEN EXCLUDED.generation > d.generation
           THEN d.acknowledged_bytes ELSE d.earlier_bytes END,
         attempts = EXCLUDED.attempts + CASE WHEN EXCLUDED.generation > d.generation
           THEN d.attempts ELSE d.earlier_attempts END,
         generation = EXCLUDED.generation,
         bitrate_kbps = EXCLUDED.bitrate_kbps,
         measured_at = EXCLUDED.measured_at
   WHERE EXCLUDED.generation >= d.generation;
END;
$$;

-- Of the users, those whose revision has moved past the one seen.
CREATE OR REPLACE FUNCTION private.advanced_users(p_users uuid[], p_revisions bigint[])
RETURNS TABLE (user_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = ''
AS $$
  SELECT u.id
    FROM unnest(p_users, p_revisions) AS seen (user_id, revision)
    JOIN public.users u ON u.id = seen.user_id AND u.revision > seen.revision;
$$;

-- Forgets change rows past their retention and idempotency rows past their day.
CREATE OR REPLACE FUNCTION private.trim_changes(p_epoch bigint, p_keep_seconds double precision)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  trimmed bigint;
BEGIN
  PERFORM private.require_epoch(p_epoch);
  DELETE FROM private.session_changes c
   WHERE c.created_at < pg_catalog.now() - pg_catalog.make_interval(secs => p_keep_seconds);
  GET DIAGNOSTICS trimmed = ROW_COUNT;
  DELETE FROM private.idempotency i
   WHERE i.method = 'StartStream' AND i.created_at < pg_catalog.now() - interval '24 hours';
  RETURN trimmed;
END;
$$;

REVOKE ALL ON FUNCTION private.require_epoch(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION
  private.held_sessions(),
  private.take_order(bigint, uuid, bigint, boolean),
  private.record_observation(bigint, uuid, bigint, text, text, text, text, timestamptz),
  private.record_delivery(bigint, uuid[], bigint[], double precision[], bigint[], double precision[],
                          integer[], timestamptz[]),
  private.advanced_users(uuid[], bigint[]),
  private.trim_changes(bigint, double precision)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  private.held_sessions(),
  private.take_order(bigint, uuid, bigint, boolean),
  private.record_observation(bigint, uuid, bigint, text, text, text, text, timestamptz),
  private.record_delivery(bigint, uuid[], bigint[], double precision[], bigint[], double precision[],
                          integer[], timestamptz[]),
  private.advanced_users(uuid[], bigint[]),
  private.trim_changes(bigint, double precision)
TO streamax_streams;
