-- What an installation of the seed holds becomes ours, made to keep the rules: addresses in lower case and once,
-- keys cut off ingest addresses, times in order, impossible values replaced by the nearest possible one. Streams
-- that ran are history with cause host_lost: the containers of the old system are not ours to adopt.

DO $migration$
BEGIN
    IF to_regclass('seed.users') IS NULL THEN
        RETURN;
    END IF;

    CREATE FUNCTION pg_temp.address(given text) RETURNS inet LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN
        RETURN given::inet;
    EXCEPTION WHEN invalid_text_representation THEN
        RETURN NULL;
    END
    $$;
    -- The last part of the path is the stream key. What is no ingest address at all is not repeated.
    CREATE FUNCTION pg_temp.without_key(given text) RETURNS text LANGUAGE sql IMMUTABLE
        RETURN left(coalesce(substring(given FROM '^(rtmps?://[^/?#]+/[^/?#]+)'), 'rtmp://unknown.invalid/live'), 2048);
    CREATE FUNCTION pg_temp.clipped(given text, most integer, otherwise text) RETURNS text LANGUAGE sql IMMUTABLE
        RETURN coalesce(nullif(left(given, most), ''), otherwise);

    INSERT INTO public.users (id, email, role, package_type, package_expires_at, streams_allowed, created_at)
    SELECT id,
           CASE WHEN row_number() OVER (PARTITION BY lower(email) ORDER BY created_at, id) = 1
                 AND length(email) BETWEEN 3 AND 255 THEN lower(email) END,
           coalesce(role, 'user'), package_type,
           CASE WHEN package_type IS NOT NULL AND isfinite(package_expires_at) THEN package_expires_at END,
           greatest(coalesce(streams_allowed, 0), 0), coalesce(created_at, now())
      FROM seed.users;
    -- Accounts the seed's trigger failed for.
    INSERT INTO public.users (id) SELECT id FROM auth.users ON CONFLICT DO NOTHING;

    INSERT INTO private.package_grants (user_id, package_type, streams_allowed, effective_at, expires_at, source)
    SELECT id, package_type, streams_allowed, least(created_at, package_expires_at - interval '1 second'),
           package_expires_at, 'import'
      FROM public.users WHERE package_type IS NOT NULL;

    IF to_regclass('seed.stream_sessions') IS NOT NULL THEN
        INSERT INTO public.stream_sessions
               (id, user_id, container_id, rtmp_url, video_source, status, created_at, started_at, stopped_at, cause,
                cause_detail)
        SELECT id, user_id, pg_temp.clipped(container_id, 256, NULL), pg_temp.without_key(rtmp_url),
               CASE WHEN video_source ~ '^[A-Za-z][A-Za-z0-9+.-]*:' AND video_source !~ '^https://' THEN 'unknown'
                    ELSE pg_temp.clipped(video_source, 2048, 'unknown') END,
               CASE WHEN coalesce(status, 'error') = 'stopped' THEN 'stopped' ELSE 'error' END,
               began, started, greatest(coalesce(stopped_at, now()), started, began),
               CASE WHEN coalesce(status, 'error') NOT IN ('stopped', 'error') THEN 'host_lost' END,
               CASE WHEN coalesce(status, 'error') NOT IN ('stopped', 'error')
                    THEN 'The stream was running when StreamAX was upgraded.' ELSE '' END
          FROM seed.stream_sessions,
               LATERAL (SELECT least(coalesce(created_at, now()), now()) AS began) AS b,
               LATERAL (SELECT CASE WHEN started_at IS NOT NULL THEN greatest(started_at, began) END AS started) AS s;
    END IF;

    IF to_regclass('seed.stream_requests') IS NOT NULL THEN
        INSERT INTO public.stream_requests
               (id, user_id, video_source, video_url, rtmp_url, title, description, status, admin_notes, created_at,
                approved_at, started_at, stopped_at)
        SELECT id, user_id, pg_temp.clipped(video_source, 1024, 'unknown'), left(video_url, 2048),
               pg_temp.without_key(rtmp_url), pg_temp.clipped(title, 200, 'Untitled'), left(description, 5000),
               CASE WHEN status IS NULL OR status = 'streaming' THEN 'stopped' ELSE status END, left(admin_notes, 5000),
               began, greatest(approved_at, CASE WHEN approved_at IS NOT NULL THEN began END), started,
               CASE WHEN stopped_at IS NOT NULL THEN greatest(stopped_at, started, began) END
          FROM seed.stream_requests,
               LATERAL (SELECT coalesce(created_at, now()) AS began) AS b,
               LATERAL (SELECT CASE WHEN started_at IS NOT NULL THEN greatest(started_at, began) END AS started) AS s;
    END IF;

    IF to_regclass('seed.user_activities') IS NOT NULL THEN
        INSERT INTO public.user_activities
               (id, user_id, action, resource, metadata, ip, user_agent, "timestamp", created_at)
        SELECT id, user_id, pg_temp.clipped(action, 200, 'unknown'), left(resource, 500),
               CASE WHEN pg_column_size(metadata) <= 65536 THEN metadata END, pg_temp.address(ip),
               left(user_agent, 1000), least(coalesce("timestamp", created_at, now()), arrived), arrived
          FROM seed.user_activities, LATERAL (SELECT coalesce(created_at, now()) AS arrived) AS a;
    END IF;

    IF to_regclass('seed.error_logs') IS NOT NULL THEN
        INSERT INTO public.error_logs
               (id, message, stack, url, line, "column", user_agent, user_id, "timestamp", severity, context, ip,
                created_at)
        SELECT id, left(message, 10000), left(stack, 100000), left(url, 4096), CASE WHEN line >= 0 THEN line END,
               CASE WHEN "column" >= 0 THEN "column" END, left(user_agent, 1000), user_id, least("timestamp", arrived),
               coalesce(severity, 'medium'), CASE WHEN pg_column_size(context) <= 65536 THEN context END,
               pg_temp.address(ip), arrived
          FROM seed.error_logs, LATERAL (SELECT coalesce(created_at, now()) AS arrived) AS a;
    END IF;

    IF to_regclass('seed.performance_metrics') IS NOT NULL THEN
        -- What is no number is no measurement.
        INSERT INTO public.performance_metrics
               (id, name, value, unit, "timestamp", user_id, page, context, created_at)
        SELECT id, pg_temp.clipped(name, 200, 'unknown'), value::double precision, pg_temp.clipped(unit, 32, 'ms'),
               least("timestamp", arrived), user_id, left(page, 2048),
               CASE WHEN pg_column_size(context) <= 65536 THEN context END, arrived
          FROM seed.performance_metrics, LATERAL (SELECT coalesce(created_at, now()) AS arrived) AS a
         WHERE value > -1e300 AND value < 1e300;
    END IF;

    IF to_regclass('seed.backup_metadata') IS NOT NULL THEN
        -- A backup that says it is complete and not where is one nobody can restore.
        INSERT INTO public.backup_metadata (id, created_at, size, tables, status, file_path, checksum, s3_bucket, s3_key)
        SELECT left(id, 200), coalesce(created_at, now()), CASE WHEN size >= 0 THEN size END, tables,
               CASE WHEN status = 'completed' AND size >= 0 AND tables IS NOT NULL AND checksum IS NOT NULL
                     AND (file_path IS NOT NULL OR (s3_bucket IS NOT NULL AND s3_key IS NOT NULL)) THEN status
                    WHEN status = 'pending' THEN status
                    ELSE 'failed' END,
               file_path, checksum, CASE WHEN s3_key IS NOT NULL THEN s3_bucket END,
               CASE WHEN s3_bucket IS NOT NULL THEN s3_key END
          FROM seed.backup_metadata WHERE id <> '';
    END IF;

    -- Temporary, and gone with the session; not with a pooled one.
    DROP FUNCTION pg_temp.address(text), pg_temp.without_key(text), pg_temp.clipped(text, integer, text);
END
$migration$;
