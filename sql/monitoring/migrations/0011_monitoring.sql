-- What happened, what failed, how fast it was. `timestamp` is what the client says, `created_at` what the
-- server's clock said on arrival: retention and reports go by created_at, and a client whose clock is a day
-- ahead is refused rather than being in every report of "the last 24 hours".

CREATE TABLE public.user_activities (
    id uuid PRIMARY KEY DEFAULT private.uuid7(),
    -- NULL: the system's own. RESTRICT: an audit trail outlives whoever left it.
    user_id uuid REFERENCES public.users (id) ON DELETE RESTRICT,
    action text NOT NULL CHECK (length(action) BETWEEN 1 AND 200),
    resource text CHECK (length(resource) <= 500),
    metadata jsonb CHECK (pg_column_size(metadata) <= 65536),
    ip inet,
    user_agent text CHECK (length(user_agent) <= 1000),
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ("timestamp" <= created_at + interval '1 day')
);
CREATE INDEX idx_user_activities_user_id ON public.user_activities (user_id, created_at DESC);
CREATE INDEX idx_user_activities_timestamp ON public.user_activities ("timestamp");
CREATE INDEX user_activities_age ON public.user_activities USING brin (created_at);
ALTER TABLE public.user_activities ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.user_activities FROM PUBLIC, anon, authenticated, service_role;

CREATE TABLE public.error_logs (
    id uuid PRIMARY KEY DEFAULT private.uuid7(),
    message text NOT NULL CHECK (length(message) <= 10000),
    stack text CHECK (length(stack) <= 100000),
    url text CHECK (length(url) <= 4096),
    line integer CHECK (line >= 0),
    -- A reserved word, and the column's name in every existing client.
    "column" integer CHECK ("column" >= 0),
    user_agent text CHECK (length(user_agent) <= 1000),
    user_id uuid REFERENCES public.users (id) ON DELETE SET NULL,
    "timestamp" timestamptz NOT NULL,
    severity text NOT NULL DEFAULT 'medium' CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    context jsonb CHECK (pg_column_size(context) <= 65536),
    ip inet,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ("timestamp" <= created_at + interval '1 day')
);
CREATE INDEX error_logs_user ON public.error_logs (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX idx_error_logs_timestamp ON public.error_logs ("timestamp");
CREATE INDEX idx_error_logs_severity ON public.error_logs (severity, created_at DESC);
CREATE INDEX error_logs_age ON public.error_logs USING brin (created_at);
ALTER TABLE public.error_logs ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.error_logs FROM PUBLIC, anon, authenticated, service_role;

CREATE TABLE public.performance_metrics (
    id uuid PRIMARY KEY DEFAULT private.uuid7(),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- Twice as fast to aggregate as numeric. NaN sorts above infinity, so the check refuses all three oddities:
    -- one of them in a million rows would make the average useless.
    value double precision NOT NULL CHECK (value > '-infinity' AND value < 'infinity'),
    -- Aggregate by name and unit, never by name alone.
    unit text NOT NULL DEFAULT 'ms' CHECK (length(unit) BETWEEN 1 AND 32),
    "timestamp" timestamptz NOT NULL,
    user_id uuid REFERENCES public.users (id) ON DELETE SET NULL,
    page text CHECK (length(page) <= 2048),
    context jsonb CHECK (pg_column_size(context) <= 65536),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ("timestamp" <= created_at + interval '1 day')
);
CREATE INDEX performance_metrics_user ON public.performance_metrics (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX idx_performance_metrics_name ON public.performance_metrics (name, unit, created_at);
CREATE INDEX idx_performance_metrics_timestamp ON public.performance_metrics ("timestamp");
CREATE INDEX performance_metrics_age ON public.performance_metrics USING brin (created_at);
ALTER TABLE public.performance_metrics ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON public.performance_metrics FROM PUBLIC, anon, authenticated, service_role;
