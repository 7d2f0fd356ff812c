-- Who may write down what happened, and read it: existing back ends with Supabase's service key, which report and
-- clean up. What they wrote they cannot rewrite.

SELECT private.reset_access('public.user_activities', 'public.error_logs', 'public.performance_metrics');

GRANT SELECT, INSERT, DELETE ON public.user_activities, public.error_logs, public.performance_metrics TO service_role;
