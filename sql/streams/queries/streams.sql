-- name: start_stream :one
-- Take a slot and create the session in one transaction, or replay the first answer.
SELECT * FROM private.start_stream($1, $2, $3, $4, $5, $6, $7, $8);

-- name: first_start :one
-- The first answer to a start with this request_id and these parameters, if there was one.
SELECT * FROM private.first_start($1, $2, $3);

-- name: request_stop :one
-- Want a session of the caller stopped.
SELECT * FROM private.request_stop($1, $2, $3);

-- name: get_session :one
-- One session of the caller.
SELECT * FROM private.get_session($1, $2);

-- name: list_sessions :many
-- A page of the caller's sessions, newest first.
SELECT * FROM private.list_sessions($1, $2, $3, $4, $5);

-- name: snapshot_sessions :many
-- All sessions of the caller beside the revision they stand at; one row of NULLs when there are none.
SELECT * FROM private.snapshot_sessions($1);

-- name: changes_after :many
-- The caller's change log after a revision, in order.
SELECT * FROM private.session_changes_after($1, $2, $3);

-- name: advanced_users :many
-- Which of these users have moved past the revision seen.
SELECT user_id FROM private.advanced_users($1, $2);

-- name: held_sessions :many
-- Every session that holds a slot.
SELECT * FROM private.held_sessions();

-- name: take_order :one
-- What launching a session needs, unless it is no longer wanted.
SELECT * FROM private.take_order($1, $2, $3, $4);

-- name: record_observation :one
-- Write down what the reconciler saw of a session.
SELECT private.record_observation($1, $2, $3, $4, $5, $6, $7, $8);

-- name: record_delivery :exec
-- Write down the counters of many encoders at once.
SELECT private.record_delivery($1, $2, $3, $4, $5, $6, $7, $8);

-- name: trim_changes :one
-- Forget change rows older than so many seconds.
SELECT private.trim_changes($1, $2);
