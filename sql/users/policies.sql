-- Who may see a profile. Nobody may write one: what a user could change about it, the account holds (e-mail), and
-- everything else is an entitlement. Writes are the definer functions'.

SELECT private.reset_access(
    'public.users', 'private.credentials', 'private.refresh_tokens', 'private.signing_keys',
    'private.packages', 'private.package_grants');

-- The services, for the caller that a reading function has named.
CREATE POLICY users_read_own ON public.users
    FOR SELECT TO streamax_users USING (id = (SELECT private.caller()));
GRANT SELECT (
    id, email, role, package_type, package_expires_at, streams_allowed, streams_active, created_at, revision, updated_at
) ON public.users TO streamax_users;

CREATE POLICY streams_read_own ON public.users
    FOR SELECT TO streamax_streams USING (id = (SELECT private.caller()));
GRANT SELECT (id, revision) ON public.users TO streamax_streams;

-- Supabase clients, for the user of their token.
CREATE POLICY "Users can read own data" ON public.users
    FOR SELECT TO authenticated USING (id = (SELECT auth.uid()));
-- The seed's one administrators' policy, without its endless recursion. An OR of policies costs the index where the
-- client sends no predicate; a scan of profiles is bearable, which is why no larger table has the like.
CREATE POLICY "Admins can read all data" ON public.users
    FOR SELECT TO authenticated USING ((SELECT private.is_admin()));
GRANT SELECT (
    id, email, role, package_type, package_expires_at, streams_allowed, streams_active, created_at, updated_at
) ON public.users TO authenticated;

-- Existing back ends with Supabase's service key, which no policy binds: what they set, and no more.
GRANT SELECT, UPDATE (role, package_type, package_expires_at, streams_allowed) ON public.users TO service_role;
