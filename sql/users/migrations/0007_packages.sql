-- What can be had, and who was given what.

CREATE TABLE private.packages (
    type text PRIMARY KEY CHECK (type IN ('starter', 'creator', 'pro')),
    streams_allowed integer NOT NULL CHECK (streams_allowed > 0),
    -- Lines of the tallest picture the package may send.
    max_height integer NOT NULL CHECK (max_height > 0),
    -- How long a grant lasts when it does not say.
    duration interval NOT NULL CHECK (duration > interval '0')
);
ALTER TABLE private.packages ENABLE ROW LEVEL SECURITY;
INSERT INTO private.packages (type, streams_allowed, max_height, duration) VALUES
    ('starter', 1, 720, interval '30 days'),
    ('creator', 3, 1080, interval '30 days'),
    ('pro', 10, 2160, interval '30 days');

-- The ledger of entitlements; append-only (trigger private.refuse_change). public.users holds what follows from it.
CREATE TABLE private.package_grants (
    id uuid PRIMARY KEY DEFAULT private.uuid7(),
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE RESTRICT,
    package_type text NOT NULL REFERENCES private.packages (type),
    streams_allowed integer NOT NULL CHECK (streams_allowed >= 0),
    effective_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: never.
    expires_at timestamptz CHECK (isfinite(expires_at) AND expires_at > effective_at),
    -- What gave it: admin, import, purchase, ...
    source text NOT NULL CHECK (length(source) BETWEEN 1 AND 64),
    granted_by uuid,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX package_grants_user ON private.package_grants (user_id, effective_at DESC);
CREATE INDEX package_grants_type ON private.package_grants (package_type);
ALTER TABLE private.package_grants ENABLE ROW LEVEL SECURITY;
