-- Streams. A row is the wish and what was last observed of it; the reconciler makes them meet.

CREATE TABLE public.stream_sessions (
    id uuid PRIMARY KEY DEFAULT private.uuid7(),
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE RESTRICT,
    container_id text CHECK (length(container_id) BETWEEN 1 AND 256),
    -- Without the stream key, which is sealed in private.session_secrets.
    rtmp_url text NOT NULL CHECK (rtmp_url ~ '^rtmps?://' AND length(rtmp_url) <= 2048),
    -- A path inside the owner's media folder, or where that file came from; an encoder is given the path only.
    video_source text NOT NULL CHECK (
        length(video_source) BETWEEN 1 AND 2048
        AND (video_source !~ '^[A-Za-z][A-Za-z0-9+.-]*:' OR video_source ~ '^https://')),
    -- Observed. `stopped` and `error` are final; legal changes: private.guard_session.
    status text NOT NULL DEFAULT 'stopped' CHECK (status IN ('starting', 'running', 'stopping', 'stopped', 'error')),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- When media bytes were first acknowledged.
    started_at timestamptz,
    -- When the container was known to be gone.
    stopped_at timestamptz,
    desired_status text NOT NULL DEFAULT 'stopped' CHECK (desired_status IN ('running', 'stopped')),
    -- How many containers it has been given; a fencing token.
    generation bigint NOT NULL DEFAULT 0 CHECK (generation >= 0),
    cause text CHECK (cause IN (
        'source', 'cpu', 'network', 'remote_refused', 'remote_slow', 'key_rejected', 'stalled', 'host_lost',
        'package_expired', 'operator', 'user')),
    cause_detail text NOT NULL DEFAULT '' CHECK (length(cause_detail) <= 2000),
    -- The owner's revision at the last change.
    revision bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
    slot_held boolean NOT NULL DEFAULT false,
    -- Keyed hash of address and key: one destination, one stream.
    target_hash bytea,
    updated_at timestamptz NOT NULL DEFAULT now(),
    request_id uuid,
    -- A slot is held until the container is known to be gone, which is what the final statuses mean.
    CONSTRAINT stream_sessions_slot CHECK (slot_held = (status IN ('starting', 'running', 'stopping'))),
    CONSTRAINT stream_sessions_end CHECK ((stopped_at IS NULL) = slot_held),
    CONSTRAINT stream_sessions_order CHECK (started_at >= created_at AND stopped_at >= coalesce(started_at, created_at)),
    CONSTRAINT stream_sessions_stopping CHECK (status <> 'stopping' OR desired_status = 'stopped'),
    CONSTRAINT stream_sessions_target CHECK (NOT slot_held OR target_hash IS NOT NULL)
) WITH (fillfactor = 80);

-- A user's sessions, newest first, by keyset.
CREATE INDEX idx_stream_sessions_user_id ON public.stream_sessions (user_id, created_at DESC, id DESC);
-- The reconciler's whole world; history does not slow it down.
CREATE INDEX stream_sessions_held ON public.stream_sessions (user_id) WHERE slot_held;
CREATE UNIQUE INDEX stream_sessions_one_per_target ON public.stream_sessions (target_hash) WHERE slot_held;
CREATE UNIQUE INDEX stream_sessions_one_per_container ON public.stream_sessions (container_id) WHERE slot_held AND container_id IS NOT NULL;
-- For lists by status over all users (administration, existing dashboards). `status` and `created_at` alone are
-- covered by it and by the index above; single-column indexes on them would only slow writes down.
CREATE INDEX idx_stream_sessions_status_created ON public.stream_sessions (status, created_at);
ALTER TABLE public.stream_sessions ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.stream_sessions FROM PUBLIC, anon, authenticated, service_role;

CREATE TABLE private.session_secrets (
    session_id uuid PRIMARY KEY REFERENCES public.stream_sessions (id) ON DELETE CASCADE,
    -- Sealed by the streams service's vault; the database never sees the key.
    sealed_key bytea NOT NULL
);
ALTER TABLE private.session_secrets ENABLE ROW LEVEL SECURITY;

-- The figures of a session, apart from it: they change every few seconds and are no change to be watched.
CREATE TABLE private.session_delivery (
    session_id uuid PRIMARY KEY REFERENCES public.stream_sessions (id) ON DELETE CASCADE,
    -- The session's owner, filled in by trigger, so that the policy needs no look at another table.
    user_id uuid NOT NULL,
    delivered_seconds double precision NOT NULL DEFAULT 0 CHECK (delivered_seconds >= 0 AND delivered_seconds < 'infinity'),
    acknowledged_bytes bigint NOT NULL DEFAULT 0 CHECK (acknowledged_bytes >= 0),
    bitrate_kbps double precision NOT NULL DEFAULT 0 CHECK (bitrate_kbps >= 0 AND bitrate_kbps < 'infinity'),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    measured_at timestamptz NOT NULL DEFAULT now(),
    -- Each encoder counts from zero. What the generations before this one delivered is kept apart and is
    -- part of the totals above, so that a relaunch never makes a total go back.
    generation bigint NOT NULL,
    earlier_seconds double precision NOT NULL DEFAULT 0,
    earlier_bytes bigint NOT NULL DEFAULT 0,
    earlier_attempts integer NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
ALTER TABLE private.session_delivery ENABLE ROW LEVEL SECURITY;

-- The log behind WatchSessions: one row per change, numbered by its owner's revision in the transaction of the
-- change. A cursor over a sequence loses rows that commit late (28.6 % under load); this loses none.
CREATE TABLE private.session_changes (
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE CASCADE,
    revision bigint NOT NULL CHECK (revision > 0),
    session_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('added', 'modified', 'removed')),
    -- The session as it was at this revision.
    snapshot jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, revision)
);
-- For trimming by age. A B-tree: after the first trim new rows fill old pages and a BRIN would match everything.
CREATE INDEX session_changes_age ON private.session_changes (created_at);
ALTER TABLE private.session_changes ENABLE ROW LEVEL SECURITY;

-- Slots taken by clients that still call increment_user_streams; they have no session.
CREATE TABLE private.legacy_slots (
    user_id uuid PRIMARY KEY REFERENCES public.users (id) ON DELETE RESTRICT,
    taken integer NOT NULL CHECK (taken > 0)
);
ALTER TABLE private.legacy_slots ENABLE ROW LEVEL SECURITY;
