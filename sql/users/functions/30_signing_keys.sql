-- The keys that sign access tokens; their private parts are sealed by the service.

-- All keys that may still be published, oldest first.
CREATE OR REPLACE FUNCTION private.list_signing_keys()
RETURNS SETOF private.signing_keys
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  RETURN QUERY SELECT k.* FROM private.signing_keys k WHERE k.status <> 'revoked' ORDER BY k.created_at, k.kid;
END;
$$;

-- Makes this the current key unless there is one: of workers that start together, one wins.
CREATE OR REPLACE FUNCTION private.add_first_signing_key(
  p_kid text, p_algorithm text, p_public_jwk jsonb, p_sealed_private bytea)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  INSERT INTO private.signing_keys (kid, algorithm, public_jwk, sealed_private, status)
  VALUES (p_kid, p_algorithm, p_public_jwk, p_sealed_private, 'current')
  ON CONFLICT (status) WHERE status = 'current' DO NOTHING;
END;
$$;

REVOKE ALL ON FUNCTION
  private.list_signing_keys(),
  private.add_first_signing_key(text, text, jsonb, bytea)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
  private.list_signing_keys(),
  private.add_first_signing_key(text, text, jsonb, bytea)
TO streamax_users;
