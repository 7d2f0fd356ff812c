-- name: sign_up :one
-- Make an account, its credentials and its first session.
SELECT id, email, role, package_type, package_expires_at, streams_allowed, streams_active,
       created_at, updated_at
  FROM private.sign_up($1, $2, $3, $4, $5);

-- name: find_credentials :one
-- What to compare the password of an e-mail address with.
SELECT user_id, password_hash, updated_at AS changed_at FROM private.find_credentials($1);

-- name: open_session :one
-- Begin a session of a user whose password matched and has not been changed since.
SELECT id, email, role, package_type, package_expires_at, streams_allowed, streams_active,
       created_at, updated_at
  FROM private.open_session($1, $2, $3, $4, $5, $6);

-- name: rotate_refresh_token :one
-- Spend a refresh token for its successor, or say why not.
SELECT outcome, steps, unspent_hash, session_id, user_id, email
  FROM private.rotate_refresh_token($1, $2, $3, $4);

-- name: get_me :one
-- The caller's own account.
SELECT id, email, role, package_type, package_expires_at, streams_allowed, streams_active,
       created_at, updated_at
  FROM private.get_me($1);

-- name: grant_package :one
-- Give a user a package from now on, or replay the first answer.
SELECT id, user_id, package_type, streams_allowed, effective_at, expires_at, granted_by, created_at
  FROM private.grant_package($1, $2, $3, $4, $5, $6);

-- name: list_signing_keys :many
-- The keys to sign with and to publish, oldest first.
SELECT kid, status, sealed_private, public_jwk ->> 'kty' AS kty, public_jwk ->> 'alg' AS alg,
       public_jwk ->> 'use' AS "use", public_jwk ->> 'crv' AS crv, public_jwk ->> 'x' AS x,
       public_jwk ->> 'y' AS y
  FROM private.list_signing_keys();

-- name: add_first_signing_key :exec
-- Make this the current key unless there is one already.
SELECT private.add_first_signing_key($1, $2, $3, $4);
