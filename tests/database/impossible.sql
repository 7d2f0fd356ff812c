-- What nobody can do, the owner included, to a database with one user who has one session starting. Each section is
-- refused by a constraint or a trigger.

-- [no role]
UPDATE public.users SET role = NULL;

-- [a role that is none]
UPDATE public.users SET role = 'root';

-- [fewer streams than none]
UPDATE public.users SET streams_allowed = -5;

-- [slots that nobody holds]
UPDATE public.users SET streams_active = 77;

-- [a slot held that nobody counts]
UPDATE public.users SET streams_active = 0;

-- [slots of a client that nobody counts]
INSERT INTO private.legacy_slots (user_id, taken) SELECT id, 1 FROM public.users;

-- [an expiry without a package]
UPDATE public.users SET package_type = NULL;

-- [an expiry that never comes]
UPDATE public.users SET package_expires_at = 'infinity';

-- [an address in capitals]
UPDATE public.users SET email = 'A@EXAMPLE.COM';

-- [no status]
UPDATE public.stream_sessions SET status = NULL;

-- [from stopping back to starting]
UPDATE public.stream_sessions SET desired_status = 'stopped', status = 'stopping';
UPDATE public.stream_sessions SET status = 'starting';

-- [stopping what is wanted to run]
UPDATE public.stream_sessions SET status = 'stopping';

-- [wanted again]
UPDATE public.stream_sessions SET desired_status = 'stopped';
UPDATE public.stream_sessions SET desired_status = 'running';

-- [stopped without stopping]
UPDATE public.stream_sessions SET status = 'stopped', stopped_at = now(), slot_held = false;

-- [failed, and still holding its slot]
UPDATE public.stream_sessions SET status = 'error', stopped_at = now();

-- [failed, and never ended]
UPDATE public.stream_sessions SET status = 'error', slot_held = false;

-- [its slot freed, and still starting]
UPDATE public.stream_sessions SET slot_held = false;

-- [a cause that is none]
UPDATE public.stream_sessions SET cause = 'bad luck';

-- [the session of another]
UPDATE public.stream_sessions SET user_id = gen_random_uuid();

-- [the session of another destination]
UPDATE public.stream_sessions SET rtmp_url = 'rtmp://b.example/live';

-- [an older generation]
UPDATE public.stream_sessions SET generation = 0;

-- [an older revision]
UPDATE public.stream_sessions SET revision = 0;

-- [gone while it runs]
DELETE FROM public.stream_sessions;

-- [born running]
INSERT INTO public.stream_sessions
       (user_id, rtmp_url, video_source, status, desired_status, slot_held, target_hash)
SELECT id, 'rtmp://a.example/live', 'film.mp4', 'running', 'running', true, 'other' FROM public.users;

-- [a change without a user]
INSERT INTO private.session_changes (user_id, revision, session_id, kind, snapshot)
VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'added', '{}');

-- [a change numbered twice]
INSERT INTO private.session_changes (user_id, revision, session_id, kind, snapshot)
SELECT user_id, revision, session_id, kind, snapshot FROM private.session_changes;

-- [history rewritten]
UPDATE private.package_grants SET streams_allowed = 9;

-- [history removed]
DELETE FROM private.package_grants;

-- [history erased]
TRUNCATE private.package_grants;

-- [a private key in public]
INSERT INTO private.signing_keys (kid, algorithm, public_jwk, sealed_private, status)
VALUES ('k', 'ES256', '{"d": "secret"}', '', 'standby');

-- [two keys that sign]
INSERT INTO private.signing_keys (kid, algorithm, public_jwk, sealed_private, status)
VALUES ('k', 'ES256', '{}', '', 'current'), ('l', 'ES256', '{}', '', 'current');

-- [a password in clear]
INSERT INTO private.credentials (user_id, password_hash) SELECT id, 'hunter2' FROM public.users;

-- [a request for a file]
INSERT INTO public.stream_requests (user_id, video_source, rtmp_url, title)
SELECT id, 'film.mp4', 'file:///etc/shadow', 'A film' FROM public.users;

-- [approved before it was asked]
INSERT INTO public.stream_requests (user_id, video_source, rtmp_url, title, approved_at)
SELECT id, 'film.mp4', 'rtmp://a.example/live', 'A film', now() - interval '1 day' FROM public.users;

-- [a backup that cannot be found]
INSERT INTO public.backup_metadata (id, status) VALUES ('b', 'completed');
