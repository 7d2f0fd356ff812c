-- An installation of the seed: its tables step aside into the schema `seed`, where nobody but their owner can reach
-- them. 0013_seed_import takes over what they hold. They stay until somebody is sure:
--
--     DROP SCHEMA seed CASCADE;

DO $$
DECLARE
    seeds CONSTANT text[] := ARRAY[
        'users', 'stream_sessions', 'stream_requests', 'user_activities', 'error_logs', 'performance_metrics',
        'backup_metadata'];
    ours  boolean;
    seed  text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY (seeds)) THEN
        RETURN;
    END IF;
    SELECT count(*) = 3 INTO ours FROM pg_attribute
     WHERE attrelid = to_regclass('public.users') AND NOT attisdropped
       AND attname IN ('package_type', 'streams_allowed', 'streams_active');
    IF NOT ours THEN
        RAISE EXCEPTION 'public holds tables by our names that are not StreamAX''s; give StreamAX a database of its own';
    END IF;

    CREATE SCHEMA seed;
    FOREACH seed IN ARRAY seeds LOOP
        EXECUTE format('ALTER TABLE IF EXISTS public.%I SET SCHEMA seed', seed);
    END LOOP;
END
$$;
