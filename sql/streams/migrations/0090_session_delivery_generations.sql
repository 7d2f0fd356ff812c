-- Each encoder counts from zero; what earlier generations delivered is kept
-- apart and added in, so a relaunch never makes a total go back.
ALTER TABLE private.session_delivery
  ADD COLUMN generation bigint NOT NULL,
  ADD COLUMN earlier_seconds double precision NOT NULL DEFAULT 0,
  ADD COLUMN earlier_bytes bigint NOT NULL DEFAULT 0,
  ADD COLUMN earlier_attempts integer NOT NULL DEFAULT 0;
