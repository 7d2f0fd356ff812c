-- Profiles: who someone is to StreamAX, what they may do and how much of it is in use.

CREATE TABLE public.users (
    -- RESTRICT: an account whose streams still run, or whose audit trail must stay, is not deleted under them.
    -- Deletion stops the streams first and then goes from the profile to the account.
    id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE RESTRICT,
    -- Absent for accounts made by telephone, anonymously, or by single sign-on under an address taken already.
    email text UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 255),
    role text NOT NULL DEFAULT 'user' CHECK (role IN ('admin', 'user')),
    -- The package in force, copied from the newest entry of private.package_grants; NULL: none.
    package_type text CHECK (package_type IN ('starter', 'creator', 'pro')),
    -- NULL: never. Judged at admission by the database's clock.
    package_expires_at timestamptz CHECK (isfinite(package_expires_at)),
    streams_allowed integer NOT NULL DEFAULT 0 CHECK (streams_allowed >= 0),
    -- Slots taken: sessions with slot_held and private.legacy_slots together. Deliberately without
    -- CHECK (streams_active <= streams_allowed), which would make a downgrade impossible.
    streams_active integer NOT NULL DEFAULT 0 CHECK (streams_active >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Counts the changes of this user's sessions and requests, without gaps; see private.session_changes.
    revision bigint NOT NULL DEFAULT 0 CHECK (revision >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (package_type IS NOT NULL OR package_expires_at IS NULL)
) WITH (fillfactor = 70);  -- the counters are updated in place, in the free part of the page
ALTER TABLE public.users ENABLE ROW LEVEL SECURITY;
-- Supabase's default privileges have given all of it away, TRUNCATE included, which no policy guards.
REVOKE ALL ON public.users FROM PUBLIC, anon, authenticated, service_role;
