-- Who may keep the list of backups: existing back ends with Supabase's service key.

SELECT private.reset_access('public.backup_metadata');

GRANT SELECT, INSERT, UPDATE, DELETE ON public.backup_metadata TO service_role;
