-- What our own sign-in needs. Empty where Supabase's Auth issues the tokens.

CREATE TABLE private.credentials (
    user_id uuid PRIMARY KEY REFERENCES public.users (id) ON DELETE CASCADE,
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    updated_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE private.credentials ENABLE ROW LEVEL SECURITY;

-- Each is good for one exchange, which makes its successor; a family is one sign-in.
CREATE TABLE private.refresh_tokens (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    family_id uuid NOT NULL,
    user_id uuid NOT NULL REFERENCES public.users (id) ON DELETE CASCADE,
    -- The `session_id` claim of the access tokens of this sign-in.
    session_id uuid NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at > issued_at),
    used_at timestamptz,
    revoked_at timestamptz,
    successor_hash bytea CHECK (octet_length(successor_hash) = 32),
    CHECK (successor_hash IS NULL OR used_at IS NOT NULL)
);
CREATE INDEX refresh_tokens_family ON private.refresh_tokens (family_id);
CREATE INDEX refresh_tokens_user ON private.refresh_tokens (user_id);
CREATE INDEX refresh_tokens_expiry ON private.refresh_tokens (expires_at);
ALTER TABLE private.refresh_tokens ENABLE ROW LEVEL SECURITY;

-- Keys go standby -> current -> previous -> revoked; verifiers know a key before it signs.
CREATE TABLE private.signing_keys (
    kid text PRIMARY KEY CHECK (length(kid) BETWEEN 1 AND 128),
    algorithm text NOT NULL CHECK (algorithm IN ('ES256', 'RS256')),
    public_jwk jsonb NOT NULL CHECK (NOT public_jwk ?| ARRAY['d', 'p', 'q', 'dp', 'dq', 'qi', 'k']),
    -- Sealed by the users service's vault; the database never sees the key.
    sealed_private bytea NOT NULL,
    status text NOT NULL CHECK (status IN ('standby', 'current', 'previous', 'revoked')),
    created_at timestamptz NOT NULL DEFAULT now()
);
-- Several processes that all find no key make one key.
CREATE UNIQUE INDEX signing_keys_one_current ON private.signing_keys (status) WHERE status = 'current';
ALTER TABLE private.signing_keys ENABLE ROW LEVEL SECURITY;
