-- Accounts and the sessions of those who sign in to them.

-- An account as its owner sees it. security_invoker: row-level security of whoever reads applies.
CREATE OR REPLACE VIEW private.accounts WITH (security_invoker = on) AS
SELECT u.id, u.email, u.role, u.package_type, u.package_expires_at, u.streams_allowed,
       u.streams_active, u.created_at, u.updated_at
  FROM public.users u;

-- Begins a session: the first refresh token of a new family.
CREATE OR REPLACE FUNCTION private.begin_session(
  p_user_id uuid, p_session_id uuid, p_token_hash bytea, p_refresh_lifetime interval)
RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
  INSERT INTO private.refresh_tokens (token_hash, family_id, user_id, session_id, issued_at, expires_at)
  VALUES (p_token_hash, p_session_id, p_user_id, p_session_id,
          pg_catalog.now(), pg_catalog.now() + p_refresh_lifetime);
$$;

-- Makes an account, its credentials and its first session in one transaction. The profile
-- is made by the trigger on auth.users, as it is wherever the identity comes from.
CREATE OR REPLACE FUNCTION private.sign_up(
  p_email text, p_password_hash text, p_session_id uuid, p_token_hash bytea, p_refresh_lifetime interval)
RETURNS SETOF private.accounts
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
DECLARE
  account_id uuid := pg_catalog.gen_random_uuid();
  account private.accounts;
BEGIN
  BEGIN
    INSERT INTO auth.users (id, email) VALUES (account_id, p_email);
  EXCEPTION WHEN unique_violation THEN
    PERFORM private.refuse('EMAIL_UNAVAILABLE');
  END;
  SELECT * INTO STRICT account FROM private.accounts a WHERE a.id = account_id;
  IF account.email IS DISTINCT FROM p_email THEN
    -- Another profile has the address, so this one was made without: nobody could sign in to it.
    PERFORM private.refuse('EMAIL_UNAVAILABLE');
  END IF;
  INSERT INTO private.credentials (user_id, password_hash) VALUES (account_id, p_password_hash);
  PERFORM private.begin_session(account_id, p_session_id, p_token_hash, p_refresh_lifetime);
  RETURN NEXT account;
END;
$$;

-- What sign-in compares a password with. There is no caller yet, hence SECURITY DEFINER.
CREATE OR REPLACE FUNCTION private.find_credentials(p_email text)
RETURNS SETOF private.credentials
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  RETURN QUERY
    SELECT c.* FROM public.users u JOIN private.credentials c ON c.user_id = u.id
     WHERE u.email = p_email;
END;
$$;

-- Begins a session for a password that matched; no row when the password has been changed
-- since it was read. A renewed hash is the same password at another cost, which is no change:
-- credentials.updated_at is when the password was chosen.
CREATE OR REPLACE FUNCTION private.open_session(
  p_user_id uuid, p_password_changed_at timestamptz, p_renewed_hash text,
  p_session_id uuid, p_token_hash bytea, p_refresh_lifetime interval)
RETURNS SETOF private.accounts
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
BEGIN
  -- The lock: a change of password that ends all sessions waits for this one, and ends it too.
  PERFORM 1 FROM private.credentials c
    WHERE c.user_id = p_user_id AND c.updated_at = p_password_changed_at FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF p_renewed_hash IS NOT NULL THEN
    UPDATE private.credentials c SET password_hash = p_renewed_hash WHERE c.user_id = p_user_id;
  END IF;
  PERFORM private.begin_session(p_user_id, p_session_id, p_token_hash, p_refresh_lifetime);
  RETURN QUERY SELECT * FROM private.accounts a WHERE a.id = p_user_id;
END;
$$;

-- Spends a refresh token for its successor. Refusals are returned, not raised: raising would
-- roll back the revocation of the family, which is the very effect of a replay.
--
-- A family is revoked by one revoked row in it, whichever: a rotation that runs at the same
-- moment may still add a token, and that one is dead like the rest.
CREATE OR REPLACE FUNCTION private.rotate_refresh_token(
  p_token_hash bytea, p_successor_hash bytea, p_reuse_interval interval, p_refresh_lifetime interval)
RETURNS TABLE (
  outcome text, steps integer, unspent_hash bytea, session_id uuid, user_id uuid, email text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = ''
AS $$
#variable_conflict use_column
DECLARE
  token private.refresh_tokens;
  moment timestamptz;
BEGIN
  -- Racing exchanges of one token queue here; each sees what the one before it did.
  SELECT t.* INTO token FROM private.refresh_tokens t WHERE t.token_hash = p_token_hash FOR UPDATE;
  IF NOT FOUND THEN
    outcome := 'unknown';
    RETURN NEXT;
    RETURN;
  END IF;
  -- Not now(): that is when the transaction began, before the wait above.
  moment := pg_catalog.clock_timestamp();

  IF EXISTS (SELECT FROM private.refresh_tokens t
              WHERE t.family_id = token.family_id AND t.revoked_at IS NOT NULL) THEN
    outcome := 'revoked';
  ELSIF token.expires_at <= moment THEN
    outcome := 'expired';
  ELSIF token.used_at IS NULL THEN
    INSERT INTO private.refresh_tokens (token_hash, family_id, user_id, session_id, issued_at, expires_at)
    VALUES (p_successor_hash, token.family_id, token.user_id, token.session_id,
            moment, moment + p_refresh_lifetime);
    UPDATE private.refresh_tokens t SET used_at = moment, successor_hash = p_successor_hash
     WHERE t.token_hash = p_token_hash;
    outcome := 'rotated';
    steps := 1;
    unspent_hash := p_successor_hash;
  ELSIF token.used_at <= moment - p_reuse_interval THEN
    UPDATE private.refresh_tokens t SET revoked_at = moment WHERE t.token_hash = p_token_hash;
    outcome := 'reused';
  ELSE
    -- The successor may itself be spent by now; handing that out would revoke the family at
    -- its next use, so the answer is the end of the line.
    WITH RECURSIVE line AS (
      SELECT token.successor_hash AS token_hash, 1 AS steps
      UNION ALL
      SELECT t.successor_hash, line.steps + 1
        FROM line JOIN private.refresh_tokens t ON t.token_hash = line.token_hash
       WHERE t.successor_hash IS NOT NULL
    )
    SELECT line.steps, line.token_hash INTO steps, unspent_hash
      FROM line ORDER BY line.steps DESC LIMIT 1;
    outcome := 'repeated';
  END IF;

  IF outcome IN ('rotated', 'repeated') THEN
    SELECT token.session_id, u.id, u.email INTO session_id, user_id, email
      FROM public.users u WHERE u.id = token.user_id;
  END IF;
  RETURN NEXT;
END;
$$;

-- The caller's own account. SECURITY INVOKER: row-level security holds here too; the
-- predicate is the plan, the policy is the net.
CREATE OR REPLACE FUNCTION private.get_me(caller uuid)
RETURNS SETOF private.accounts
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = ''
AS $$
BEGIN
  IF caller IS NULL THEN
    PERFORM private.refuse('TOKEN_MISSING');
  END IF;
  PERFORM pg_catalog.set_config('streamax.caller', caller::text, true);
  RETURN QUERY SELECT * FROM private.accounts a WHERE a.id = caller;
END;
$$;

REVOKE ALL ON FUNCTION
  private.begin_session(uuid, uuid, bytea, interval),
  private.sign_up(text, text, uuid, bytea, interval),
  private.find_credentials(text),
  private.open_session(uuid, timestamptz, text, uuid, bytea, interval),
  private.rotate_refresh_token(bytea, bytea, interval, interval),
  private.get_me(uuid)
FROM PUBLIC;
GRANT SELECT ON private.accounts TO streamax_users;
GRANT EXECUTE ON FUNCTION
  private.sign_up(text, text, uuid, bytea, interval),
  private.find_credentials(text),
  private.open_session(uuid, timestamptz, text, uuid, bytea, interval),
  private.rotate_refresh_token(bytea, bytea, interval, interval),
  private.get_me(uuid)
TO streamax_users;
