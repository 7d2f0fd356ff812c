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
    UPDATE public.users SET email = pg_catalog.lower(nullif(NEW.email, ''))
     WHERE id = NEW.id
       AND NOT EXISTS (SELECT FROM public.users other
                        WHERE other.id <> NEW.id AND other.email = pg_catalog.lower(NEW.email));
    RETURN NEW;
END
$$;
REVOKE ALL ON FUNCTION private.handle_changed_email() FROM PUBLIC;

CREATE OR REPLACE TRIGGER on_auth_user_created AFTER INSERT ON auth.users
    FOR EACH ROW EXECUTE FUNCTION private.handle_new_user();
CREATE OR REPLACE TRIGGER on_auth_user_email_changed AFTER UPDATE OF email ON auth.users
    FOR EACH ROW WHEN (OLD.email IS DISTINCT FROM NEW.email)
    EXECUTE FUNCTION private.handle_changed_email();
