-- What was backed up, where it is and whether it is whole.

CREATE TABLE public.backup_metadata (
    id text PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Bytes.
    size bigint CHECK (size >= 0),
    tables text[],
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'failed')),
    file_path text,
    checksum text,
    s3_bucket text,
    s3_key text,
    -- A backup is complete when it can be found and checked.
    CHECK (status <> 'completed' OR (
        size IS NOT NULL AND tables IS NOT NULL AND checksum IS NOT NULL
        AND (file_path IS NOT NULL OR (s3_bucket IS NOT NULL AND s3_key IS NOT NULL)))),
    CHECK ((s3_bucket IS NULL) = (s3_key IS NULL))
);
CREATE INDEX backup_metadata_age ON public.backup_metadata (created_at DESC);
ALTER TABLE public.backup_metadata ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.backup_metadata FROM PUBLIC, anon, authenticated, service_role;
