-- A session as everyone below sees it, and the row that remembers each change of it.

-- A session as its owner sees it, delivery included. security_invoker: row-level
-- security of whoever reads applies.
CREATE OR REPLACE VIEW private.sessions WITH (security_invoker = on) AS
SELECT s.id, s.user_id, s.rtmp_url, s.video_source, s.status, s.desired_status, s.cause,
       s.cause_detail, s.container_id, s.generation, s.revision, s.created_at, s.started_at,
       s.stopped_at, d.delivered_seconds, d.acknowledged_bytes, d.bitrate_kbps, d.attempts,
       d.measured_at
  FROM public.stream_sessions s
  LEFT JOIN private.session_delivery d ON d.session_id = s.id;

-- Writes the change row of a session at the revision just taken for it.
CREATE OR REPLACE FUNCTION private.record_change(p_session_id uuid, p_kind text)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
  INSERT INTO private.session_changes (user_id, revision, session_id, kind, snapshot)
  SELECT v.user_id, v.revision, v.id, p_kind, to_jsonb(v)
    FROM private.sessions v WHERE v.id = p_session_id;
$$;

REVOKE ALL ON FUNCTION private.record_change(uuid, text) FROM PUBLIC;
GRANT SELECT ON private.sessions TO streamax_streams;
