-- A mutation and the answer it gave are one transaction, so a repeated request finds the first answer;
-- one that comes at the same time waits on the key and then finds it.

CREATE TABLE private.idempotency (
    caller uuid NOT NULL,
    method text NOT NULL CHECK (length(method) BETWEEN 1 AND 200),
    request_id uuid NOT NULL,
    -- Hash of the request without its request_id: the same id with another request is a mistake.
    fingerprint bytea NOT NULL,
    response jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, method, request_id)
);
CREATE INDEX idempotency_age ON private.idempotency (created_at);
ALTER TABLE private.idempotency ENABLE ROW LEVEL SECURITY;

-- Who does the work that only one process may do. The lock is PostgreSQL's; the epoch tells a leader that
-- has lost it without knowing from its successor.
CREATE TABLE private.leaderships (
    name text PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 128),
    epoch bigint NOT NULL CHECK (epoch > 0),
    holder text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE private.leaderships ENABLE ROW LEVEL SECURITY;
