-- Entitlements: an append-only ledger of grants, and what `users` shows of it.

-- Brings the entitlement columns of a user in line with the ledger. The caller holds the
-- user's row. The latest grant counts, expired or not, so that clients can say when it ended.
--
-- Not users.revision: that one numbers the rows of private.session_changes without gaps, and
-- a number without a row would end every watch of the user's sessions as expired.
CREATE OR REPLACE FUNCTION private.derive_entitlement(p_user_id uuid)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
  UPDATE public.users u
     SET package_type = latest.package_type, package_expires_at = latest.expires_at,
         streams_allowed = latest.streams_allowed
    FROM (SELECT g.package_type, g.expires_at, g.streams_allowed
            FROM private.package_grants g WHERE g.user_id = p_user_id
           ORDER BY g.effective_at DESC LIMIT 1) latest
   WHERE u.id = p_user_id;
$$;

-- Gives a user a package from now on. Idempotent by (caller, request_id).
CREATE OR REPLACE FUNCTION private.grant_package(
  caller uuid, p_user_id uuid, p_package_type text, p_expires_at timestamptz,
  p_request_id uuid, p_fingerprint bytea)
RETURNS SETOF private.package_grants
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  earlier private.idempotency;
  package private.packages;
  effective timestamptz;
  grant_id uuid := private.uuid7();
BEGIN
  IF caller IS NULL THEN
    PERFORM private.refuse('TOKEN_MISSING');
  END IF;
  -- Before everything else: who is no administrator learns nothing here, not even from a
  -- request_id of the time when they were one.
  IF NOT EXISTS (SELECT FROM public.users u WHERE u.id = caller AND u.role = 'admin') THEN
    PERFORM private.refuse('ROLE_REQUIRED',
      '{"method": "/streamax.users.v1.UserAdminService/GrantPackage"}');
  END IF;
  IF p_request_id IS NOT NULL THEN
    -- A concurrent duplicate waits here for the first to commit, then replays it.
    INSERT INTO private.idempotency (caller, method, request_id, fingerprint, response)
    VALUES (grant_package.caller, 'GrantPackage', p_request_id, p_fingerprint,
            pg_catalog.jsonb_build_object('grant_id', grant_id))
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      SELECT i.* INTO STRICT earlier FROM private.idempotency i
       WHERE i.caller = grant_package.caller AND i.method = 'GrantPackage' AND i.request_id = p_request_id;
      IF earlier.fingerprint <> p_fingerprint THEN
        PERFORM private.refuse('REQUEST_ID_REUSED');
      END IF;
      -- The ledger never changes, so the entry is the first answer to the byte.
      RETURN QUERY SELECT g.* FROM private.package_grants g
                    WHERE g.id = (earlier.response ->> 'grant_id')::uuid;
      RETURN;
    END IF;
  END IF;

  PERFORM 1 FROM public.users u WHERE u.id = p_user_id FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    PERFORM private.refuse('RESOURCE_NOT_FOUND', pg_catalog.jsonb_build_object('type', 'User', 'name', p_user_id));
  END IF;
  SELECT p.* INTO package FROM private.packages p WHERE p.type = p_package_type;
  IF NOT FOUND THEN
    PERFORM private.refuse('RESOURCE_NOT_FOUND', pg_catalog.jsonb_build_object('type', 'Package', 'name', p_package_type));
  END IF;

  -- Grants take effect in the order in which they got the user's row, whatever the clock says:
  -- now() is when the transaction began, before the wait for that row.
  SELECT greatest(pg_catalog.now(), pg_catalog.max(g.effective_at) + interval '1 microsecond')
    INTO effective FROM private.package_grants g WHERE g.user_id = p_user_id;
  -- Here and not in the service: a replay must still be answered after its expire_time has passed.
  IF p_expires_at <= effective THEN
    PERFORM private.refuse('INVALID_FIELD', pg_catalog.jsonb_build_object(
      'field', 'expire_time',
      'description', 'must be in the future; leave it out for the package''s own duration'));
  END IF;
  INSERT INTO private.package_grants
    (id, user_id, package_type, streams_allowed, effective_at, expires_at, source, granted_by)
  VALUES
    (grant_id, p_user_id, package.type, package.streams_allowed, effective,
     coalesce(p_expires_at, effective + package.duration), 'admin', caller);
  PERFORM private.derive_entitlement(p_user_id);
  RETURN QUERY SELECT g.* FROM private.package_grants g WHERE g.id = grant_id;
END;
$$;

REVOKE ALL ON FUNCTION
  private.derive_entitlement(uuid),
  private.grant_package(uuid, uuid, text, timestamptz, uuid, bytea)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  private.grant_package(uuid, uuid, text, timestamptz, uuid, bytea)
TO streamax_users;
