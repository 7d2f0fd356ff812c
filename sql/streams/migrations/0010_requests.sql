-- Streams that an administrator approves first.

CREATE TABLE public.stream_requests (
    id uuid PRIMARY KEY DEFAULT private.uuid7(),
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE RESTRICT,
    video_source text NOT NULL CHECK (length(video_source) BETWEEN 1 AND 1024),
    video_url text CHECK (length(video_url) <= 2048),
    -- Without the stream key.
    rtmp_url text NOT NULL CHECK (rtmp_url ~ '^rtmps?://' AND length(rtmp_url) <= 2048),
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    description text CHECK (length(description) <= 5000),
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'approved', 'rejected', 'streaming', 'stopped')),
    admin_notes text CHECK (length(admin_notes) <= 5000),
    created_at timestamptz NOT NULL DEFAULT now(),
    approved_at timestamptz,
    started_at timestamptz,
    stopped_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (approved_at >= created_at),
    CHECK (started_at >= created_at),
    CHECK (stopped_at >= coalesce(started_at, created_at))
);
CREATE INDEX idx_stream_requests_user_id ON public.stream_requests (user_id, created_at DESC, id DESC);
CREATE INDEX idx_stream_requests_status ON public.stream_requests (status, created_at);
ALTER TABLE public.stream_requests ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.stream_requests FROM PUBLIC, anon, authenticated, service_role;
