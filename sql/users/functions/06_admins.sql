-- Whether a Supabase client's user is an administrator. Definer, so that a policy on public.users may ask it
-- without asking itself; its owner is the table's, whom row-level security does not bind (no table is FORCEd:
-- under FORCE this would be false for everybody, without an error).
CREATE OR REPLACE FUNCTION private.is_admin() RETURNS boolean
    LANGUAGE plpgsql STABLE
    SECURITY DEFINER
    SET search_path = ''
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM public.users WHERE id = auth.uid() AND role = 'admin');
END
$$;
REVOKE ALL ON FUNCTION private.is_admin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION private.is_admin() TO authenticated;
