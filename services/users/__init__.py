"""The users service: accounts, sign-in, the keys that verify our tokens, and entitlements.

It owns `public.users` but for `streams_active` (the streams service's), and in `private`
the credentials, refresh tokens, signing keys, packages and the ledger of grants. Browsers
and apps call AuthService and UserService, operators UserAdminService, and every other
service calls AuthService.GetJwks to verify tokens.
"""
