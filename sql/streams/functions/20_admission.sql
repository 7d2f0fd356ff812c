-- What a user may do to sessions. Lock order everywhere: the user's row first, then the
-- session's, so two calls can never wait for each other; all writes of one user
-- queue on that row, which is also what makes the revision gapless.

-- Why the guarded update of start_stream found no slot: raises, always.
CREATE OR REPLACE FUNCTION private.refuse_slot(caller uuid)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  account public.users;
BEGIN
  SELECT * INTO account FROM public.users u WHERE u.id = caller;
  IF NOT FOUND THEN
    PERFORM private.refuse('RESOURCE_NOT_FOUND', pg_catalog.jsonb_build_object('type', 'User', 'name', caller));
  ELSIF account.package_type IS NULL THEN
    PERFORM private.refuse('PACKAGE_MISSING');
  ELSIF account.package_expires_at <= pg_catalog.now() THEN
    PERFORM private.refuse('PACKAGE_EXPIRED', pg_catalog.jsonb_build_object('expired_at', account.package_expires_at));
  END IF;
  PERFORM private.refuse('QUOTA_EXCEEDED', pg_catalog.jsonb_build_object('user', caller, 'limit', account.streams_allowed::text, 'active', account.streams_active::text));
END;
$$;

-- Admission: the idempotency row, the slot, the session, its key and the change
-- row in one transaction. Over-admission is impossible: the slot is taken by one
-- guarded UPDATE, and everything else hangs on it.
CREATE OR REPLACE FUNCTION private.start_stream(
  caller uuid, p_id uuid, p_video_source text, p_rtmp_url text,
  p_target_hash bytea, p_sealed_key bytea, p_request_id uuid, p_fingerprint bytea)
RETURNS SETOF private.sessions
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  earlier private.idempotency;
  taken bigint;
BEGIN
  IF caller IS NULL THEN
    PERFORM private.refuse('TOKEN_MISSING');
  END IF;
  IF p_request_id IS NOT NULL THEN
    -- A concurrent duplicate waits here for the first to commit, then replays it.
    INSERT INTO private.idempotency (caller, method, request_id, fingerprint, response)
    VALUES (start_stream.caller, 'StartStream', p_request_id, p_fingerprint, 'null')
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      SELECT * INTO STRICT earlier FROM private.idempotency i
       WHERE i.caller = start_stream.caller AND i.method = 'StartStream' AND i.request_id = p_request_id;
      IF earlier.fingerprint <> p_fingerprint THEN
        PERFORM private.refuse('REQUEST_ID_REUSED');
      END IF;
      RETURN QUERY SELECT * FROM pg_catalog.jsonb_populate_record(NULL::private.sessions, earlier.response);
      RETURN;
    END IF;
  END IF;

  UPDATE public.users u
     SET streams_active = u.streams_active + 1, revision = u.revision + 1
   WHERE u.id = caller
     AND u.package_type IS NOT NULL
     AND (u.package_expires_at IS NULL OR u.package_expires_at > pg_catalog.now())
     AND u.streams_active < u.streams_allowed
  RETURNING u.revision INTO taken;
  IF NOT FOUND THEN
    PERFORM private.refuse_slot(caller);
  END IF;

  INSERT INTO public.stream_sessions
    (id, user_id, rtmp_url, video_source, status, desired_status, generation, revision,
     slot_held, target_hash, request_id)
  VALUES
    (p_id, caller, p_rtmp_url, p_video_source, 'starting', 'running', 1, taken,
     true, p_target_hash, p_request_id);
  INSERT INTO private.session_secrets (session_id, sealed_key) VALUES (p_id, p_sealed_key);
  PERFORM private.record_change(p_id, 'added');
  IF p_request_id IS NOT NULL THEN
    UPDATE private.idempotency i
       SET response = (SELECT c.snapshot FROM private.session_changes c
                        WHERE c.user_id = start_stream.caller AND c.revision = taken)
     WHERE i.caller = start_stream.caller AND i.method = 'StartStream' AND i.request_id = p_request_id;
  END IF;
  RETURN QUERY SELECT * FROM private.sessions v WHERE v.id = p_id;
END;
$$;

-- The answer that this request got when it came first; no row when it never came. For a repeat whose file has
-- gone meanwhile: what was admitted once is answered as it was.
CREATE OR REPLACE FUNCTION private.first_start(caller uuid, p_request_id uuid, p_fingerprint bytea)
RETURNS SETOF private.sessions
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  IF caller IS NULL THEN
    PERFORM private.refuse('TOKEN_MISSING');
  END IF;
  RETURN QUERY
    SELECT v.*
      FROM private.idempotency i, pg_catalog.jsonb_populate_record(NULL::private.sessions, i.response) v
     WHERE i.caller = first_start.caller AND i.method = 'StartStream' AND i.request_id = p_request_id
       AND i.fingerprint = p_fingerprint;
END;
$$;

-- Wants a session stopped; what is stopping or stopped already stays as it is.
CREATE OR REPLACE FUNCTION private.request_stop(caller uuid, p_session_id uuid, p_revision bigint)
RETURNS SETOF private.sessions
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  session public.stream_sessions;
BEGIN
  IF caller IS NULL THEN
    PERFORM private.refuse('TOKEN_MISSING');
  END IF;
  PERFORM 1 FROM public.users u WHERE u.id = caller FOR NO KEY UPDATE;
  SELECT * INTO session FROM public.stream_sessions s
   WHERE s.id = p_session_id AND s.user_id = caller FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM private.refuse(
      'RESOURCE_NOT_FOUND',
      pg_catalog.jsonb_build_object('type', 'Session', 'name', p_session_id));
  ELSIF p_revision IS NOT NULL AND p_revision <> session.revision THEN
    PERFORM private.refuse('ETAG_MISMATCH', pg_catalog.jsonb_build_object('etag', pg_catalog.format('"%s"', session.revision)));
  END IF;
  IF session.desired_status = 'running' AND session.slot_held THEN
    UPDATE public.stream_sessions s
       SET desired_status = 'stopped', status = 'stopping', cause = 'user', cause_detail = '',
           revision = private.bump_revision(caller)
     WHERE s.id = p_session_id;
    PERFORM private.record_change(p_session_id, 'modified');
  END IF;
  RETURN QUERY SELECT * FROM private.sessions v WHERE v.id = p_session_id;
END;
$$;

REVOKE ALL ON FUNCTION private.refuse_slot(uuid) FROM PUBLIC;
REVOKE ALL ON FUNCTION
  private.start_stream(uuid, uuid, text, text, bytea, bytea, uuid, bytea),
  private.first_start(uuid, uuid, bytea),
  private.request_stop(uuid, uuid, bigint)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  private.start_stream(uuid, uuid, text, text, bytea, bytea, uuid, bytea),
  private.first_start(uuid, uuid, bytea),
  private.request_stop(uuid, uuid, bigint)
TO streamax_streams;
