-- The profile of an account, made and kept by the account itself.

-- On Supabase this fires inside GoTrue, whose search_path is `auth`: every name is qualified, or every sign-up
-- would fail. An account without an address (telephone, anonymous) gets a profile without one; so does one whose
-- address another profile has, which single sign-on can bring about and which must not stop it from signing in.
CREATE OR REPLACE FUNCTION private.handle_new_user() RETURNS trigger
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    INSERT INTO public.users (id, email) VALUES (NEW.id, pg_catalog.lower(nullif(NEW.email, '')))
    ON CONFLICT DO NOTHING;
    INSERT INTO public.users (id) VALUES (NEW.id)
    ON CONFLICT (id) DO NOTHING;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION private.handle_new_user() FROM PUBLIC;

CREATE OR REPLACE FUNCTION private.handle_changed_email() RETURNS trigger
    LANGUAGE plpgsql
    SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    UPDATE public.users SET email = pg_catalog.lower(nullif(NEW.email, '')) WHERE id = NEW.id;
    RETURN NEW;
EXCEPTION
    WHEN unique_violation THEN
        UPDATE public.users SET email = NULL WHERE id = NEW.id;
        RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION private.handle_changed_email() FROM PUBLIC;

CREATE OR REPLACE TRIGGER on_auth_user_created AFTER INSERT ON auth.users
    FOR EACH ROW EXECUTE FUNCTION private.handle_new_user();
-- The seed's, where there was one; the trigger has just let go of it.
DROP FUNCTION IF EXISTS public.handle_new_user();
CREATE OR REPLACE TRIGGER on_auth_user_email_changed AFTER UPDATE OF email ON auth.users
    FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email)
    EXECUTE FUNCTION private.handle_changed_email();

-- Every change of a profile is later than the one before it, whatever the clock does, so that an etag made of the
-- time is an etag.
CREATE OR REPLACE FUNCTION private.touch_user() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    IF NEW.updated_at <= OLD.updated_at THEN
        NEW.updated_at := greatest(pg_catalog.clock_timestamp(), OLD.updated_at + interval '1 microsecond');
    END IF;
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION private.touch_user() FROM PUBLIC;
CREATE OR REPLACE TRIGGER touch_user BEFORE UPDATE ON public.users
    FOR EACH ROW EXECUTE FUNCTION private.touch_user();

-- The ledger is only ever added to. TRUNCATE is refused with the rest.
CREATE OR REPLACE FUNCTION private.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = ''
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
REVOKE ALL ON FUNCTION private.refuse_change() FROM PUBLIC;
CREATE OR REPLACE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON private.package_grants
    FOR EACH STATEMENT EXECUTE FUNCTION private.refuse_change();
