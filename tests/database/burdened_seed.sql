-- The seed after some life: ordinary rows, and the worst it lets in.

INSERT INTO auth.users (id, email, is_sso_user) VALUES
    ('00000000-0000-0000-0000-00000000000a', 'boss@example.com', false),
    ('00000000-0000-0000-0000-00000000000b', 'A@Example.com', false),
    ('00000000-0000-0000-0000-00000000000c', 'a@example.com', true);
UPDATE public.users SET role = 'admin', package_type = 'pro', package_expires_at = 'infinity', streams_allowed = 10,
       created_at = '2024-01-01' WHERE email = 'boss@example.com';
UPDATE public.users SET package_type = 'creator', package_expires_at = '2025-02-02', streams_allowed = 3,
       streams_active = 77, created_at = '2025-01-01' WHERE email = 'A@Example.com';
UPDATE public.users SET role = NULL, streams_allowed = -5, package_expires_at = '2025-02-02',
       created_at = '2025-01-02' WHERE email = 'a@example.com';

INSERT INTO public.stream_sessions (user_id, container_id, rtmp_url, video_source, status, started_at, stopped_at)
VALUES
    ('00000000-0000-0000-0000-00000000000b', 'c1', 'rtmp://a.rtmp.youtube.com/live2/canary-key', '/videos/a.mp4',
     'running', now(), now() - interval '1 day'),
    ('00000000-0000-0000-0000-00000000000b', 'c1', 'rtmps://b.example:443/app/canary-key?x=1',
     'https://cdn.example/b.mp4', 'stopped', now(), NULL),
    ('00000000-0000-0000-0000-00000000000b', NULL, 'canary-key', 'file:///etc/shadow', NULL, NULL, NULL);
INSERT INTO public.stream_requests (user_id, video_source, rtmp_url, title, status)
VALUES ('00000000-0000-0000-0000-00000000000b', '', 'rtmp://a.rtmp.youtube.com/live2/canary-key', '', 'streaming');
INSERT INTO public.user_activities (user_id, action, ip) VALUES
    ('00000000-0000-0000-0000-00000000000b', 'login', '10.0.0.1'),
    (NULL, 'logout', '10.0.0.1, 10.0.0.2');
INSERT INTO public.error_logs (message, line, "column", timestamp, severity)
VALUES ('oh', -1, 7, '2999-01-01', NULL);
INSERT INTO public.performance_metrics (name, value, unit, timestamp) VALUES
    ('load', 1.5, NULL, '2999-01-01'),
    ('load', 'NaN', 'ms', now());
INSERT INTO public.backup_metadata (id, size, tables, status, checksum, file_path) VALUES
    ('found', 1, '{users}', 'completed', 'c', '/b'),
    ('lost', 1, '{users}', 'completed', NULL, NULL);
