-- Who may see a stream. Nobody may write one: admission, stop and observation are the definer functions'.

SELECT private.reset_access(
    'public.stream_sessions', 'public.stream_requests', 'private.session_secrets', 'private.session_delivery',
    'private.session_changes', 'private.legacy_slots');

-- The service, for the caller that a reading function has named.
CREATE POLICY streams_read_own ON public.stream_sessions
    FOR SELECT TO streamax_streams USING (user_id = (SELECT private.caller()));
GRANT SELECT (
    id, user_id, container_id, rtmp_url, video_source, status, created_at, started_at, stopped_at, desired_status,
    generation, cause, cause_detail, revision, updated_at
) ON public.stream_sessions TO streamax_streams;

CREATE POLICY streams_read_own ON private.session_delivery
    FOR SELECT TO streamax_streams USING (user_id = (SELECT private.caller()));
GRANT SELECT (
    session_id, delivered_seconds, acknowledged_bytes, bitrate_kbps, attempts, measured_at
) ON private.session_delivery TO streamax_streams;

CREATE POLICY streams_read_own ON private.session_changes
    FOR SELECT TO streamax_streams USING (user_id = (SELECT private.caller()));
GRANT SELECT (user_id, revision, session_id, kind, snapshot, created_at) ON private.session_changes TO streamax_streams;

-- Supabase clients, for the user of their token.
CREATE POLICY "Users can read own sessions" ON public.stream_sessions
    FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
GRANT SELECT (
    id, user_id, container_id, rtmp_url, video_source, status, created_at, started_at, stopped_at, desired_status,
    cause, cause_detail, revision, updated_at
) ON public.stream_sessions TO authenticated;

CREATE POLICY "Users can read own requests" ON public.stream_requests
    FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
GRANT SELECT (
    id, user_id, video_source, video_url, rtmp_url, title, description, status, admin_notes, created_at, approved_at,
    started_at, stopped_at, updated_at
) ON public.stream_requests TO authenticated;

-- Existing back ends with Supabase's service key: reports, and the three functions under their old names.
GRANT SELECT (
    id, user_id, container_id, rtmp_url, video_source, status, created_at, started_at, stopped_at, desired_status,
    generation, cause, cause_detail, revision, updated_at
) ON public.stream_sessions TO service_role;
GRANT SELECT ON public.stream_requests TO service_role;
