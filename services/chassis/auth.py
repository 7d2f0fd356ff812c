"""Who is calling: verified JSON Web Tokens in Supabase's shape.

The signature, audience and expiry of a token are checked here, and nothing a
user can write decides what it may do: `role` is signed by us, and `admin` is a
column of the database that SQL looks at.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from jwt.types import Options

from services.chassis.clock import Clock, SystemClock
from services.chassis.errors import RoleRequired, TokenExpired, TokenInvalid, TokenMissing, Unavailable
from services.chassis.keys import FileKeys, HttpKeys, KeySource, KeysUnavailable, SecretKey

__all__ = [
    "ANONYMOUS",
    "Access",
    "AuthConfig",
    "KeySource",
    "Principal",
    "Role",
    "Verifier",
    "bearer",
    "current_principal",
    "require_user",
    "use_principal",
]

_log = logging.getLogger(__name__)


class Role(StrEnum):
    """The `role` claim."""

    ANONYMOUS = "anon"
    AUTHENTICATED = "authenticated"
    SERVICE = "service_role"


class Access(Enum):
    """Who may call a method; each served method names one."""

    #: Anybody; a token is not even looked at.
    PUBLIC = "public"
    #: A signed-in user.
    USER = "user"
    #: A signed-in user whose `users.role` is admin; SQL decides that, in the call's own statement.
    ADMIN = "admin"
    #: A service of ours.
    SERVICE = "service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """On whose behalf a call runs."""

    #: The user; None for the anonymous and for services.
    subject: UUID | None
    role: Role
    #: The sign-in that the token belongs to.
    session_id: UUID | None = None
    #: When the token ends; None for the anonymous, who have none.
    expires_at: datetime | None = None
    #: The administrator who acts as the subject (the `act` claim, RFC 8693).
    impersonator: UUID | None = None
    #: The token itself, to call another service on the same behalf.
    token: str | None = None

    def __repr__(self) -> str:
        return f"Principal({self.role}, {self.subject})"


ANONYMOUS = Principal(subject=None, role=Role.ANONYMOUS)

_principal: ContextVar[Principal] = ContextVar("principal", default=ANONYMOUS)


def current_principal() -> Principal:
    """The caller of the RPC being served."""
    return _principal.get()


def require_user() -> UUID:
    """The user who is calling; raises RoleRequired when it is not a user."""
    subject = _principal.get().subject
    if subject is None:
        raise RoleRequired
    return subject


# Set and never reset: each RPC runs in a task, and so in a context, of its own.
use_principal = _principal.set


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthConfig:
    """How tokens are verified. Exactly one of the three key sources, or one given in code."""

    #: Required in `aud`.
    audience: str = "authenticated"
    #: Required in `iss` when set.
    issuer: str | None = None
    #: A JSON Web Key Set.
    jwks_file: Path | None = None
    jwks_url: str | None = None
    #: The shared HS256 secret of an older Supabase project, as text.
    secret_file: Path | None = None
    #: For how long a verified token is believed without looking again.
    cache_for: timedelta = timedelta(seconds=60)
    cache_size: int = 10_000
    #: Keys older than this are fetched again.
    keys_max_age: timedelta = timedelta(minutes=10)
    #: Between two fetches, however many unknown key ids arrive.
    keys_cool_down: timedelta = timedelta(seconds=30)
    #: Keys that could not be fetched again for so long are no longer believed:
    #: a revoked key must die even while its source is down.
    keys_stale_after: timedelta = timedelta(hours=1)
    #: How much clocks may differ.
    leeway: timedelta = timedelta(seconds=5)

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.jwks_file, self.jwks_url, self.secret_file)) > 1:
            raise ValueError("give one of jwks_file, jwks_url and secret_file")
        if self.cache_for > timedelta(seconds=60):
            raise ValueError("cache_for: a revoked key must be noticed within 60 s")

    def key_source(self) -> KeySource | None:
        """The configured source, None when there is none."""
        if self.jwks_file is not None:
            return FileKeys(self.jwks_file)
        if self.jwks_url is not None:
            return HttpKeys(self.jwks_url)
        if self.secret_file is not None:
            return SecretKey(self.secret_file)
        return None


class Verifier:
    """Turns a bearer token into a Principal, or refuses it."""

    def __init__(self, key_source: KeySource, config: AuthConfig, *, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or SystemClock()
        self._ring = _KeyRing(key_source, config, self._clock)
        # Token -> the principal and the monotonic moment until which it is believed. A dict
        # hashes its keys with a secret of the process, so a lookup's time says nothing of
        # them; a sha256 as key showed as 9 us a call in a profile of a loaded service, and
        # hid nothing, because the principal carries the token anyway.
        self._verified: dict[str, tuple[Principal, float]] = {}

    async def verify(self, token: str) -> Principal:
        """Raises TokenInvalid, TokenExpired, or Unavailable when no keys can be had."""
        return self.recall(token) or await self._verify(token)

    def recall(self, token: str) -> Principal | None:
        """The principal of a token verified a moment ago; None when it must be verified."""
        known = self._verified.get(token)
        if known is None:
            return None
        if known[1] > self._clock.monotonic():
            return known[0]
        del self._verified[token]
        return None

    async def _verify(self, token: str) -> Principal:
        header = _header(token)
        for key in await self._ring.candidates(header.get("kid"), header.get("alg", "")):
            claims = self._claims(token, key)
            if claims is not None:
                principal = _principal_of(claims, token)
                self._remember(token, principal)
                return principal
        raise TokenInvalid(private="no key verifies it")

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any] | None:
        """The claims when this key signed the token, None when it did not."""
        try:
            # The algorithm comes from the key, never from the token: `none`, and a
            # public key used as an HMAC secret, have no way in. The clock is ours, so
            # PyJWT only checks the signature and the shape.
            return self._checked(
                jwt.decode(
                    token,
                    key,
                    algorithms=[key.algorithm_name],
                    options=_SIGNATURE_ONLY,
                )
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.InvalidTokenError as error:
            raise TokenInvalid(private=str(error)) from error

    def _checked(self, claims: dict[str, Any]) -> dict[str, Any]:
        now = self._clock.now().timestamp()
        leeway = self._config.leeway.total_seconds()
        if not isinstance(claims.get("exp"), int | float):
            raise TokenInvalid(private="no exp")
        if claims["exp"] + leeway <= now:
            raise TokenExpired
        not_before = claims.get("nbf", 0)
        if not isinstance(not_before, int | float) or not_before - leeway > now:
            raise TokenInvalid(private="nbf lies ahead")
        if self._config.issuer is not None and claims.get("iss") != self._config.issuer:
            raise TokenInvalid(private="wrong iss")
        audiences = claims.get("aud")
        if audiences is None and claims.get("role") == Role.SERVICE:
            return claims  # Supabase's service keys carry no audience.
        if self._config.audience not in (audiences if isinstance(audiences, list) else [audiences]):
            raise TokenInvalid(private="wrong aud")
        return claims

    def _remember(self, token: str, principal: Principal) -> None:
        if len(self._verified) >= self._config.cache_size:
            self._verified.pop(next(iter(self._verified)))
        left = _seconds_left(principal, self._clock)
        until = self._clock.monotonic() + min(left, self._config.cache_for.total_seconds())
        self._verified[token] = (principal, until)


# For PyJWT: what we check ourselves, by our own clock.
_SIGNATURE_ONLY: Options = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class _KeyRing:
    """The keys at hand: fetched when old or when an unknown id turns up, at most once per cool-down."""

    def __init__(self, source: KeySource, config: AuthConfig, clock: Clock) -> None:
        self._source = source
        self._config = config
        self._clock = clock
        self._keys: list[jwt.PyJWK] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def candidates(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """The keys that may have signed a token with this key id and algorithm."""
        if self._age(self._fetched_at) > self._config.keys_max_age.total_seconds():
            await self._fetch()
        matching = self._match(kid, algorithm)
        if not matching:
            await self._fetch()
            matching = self._match(kid, algorithm)
        if self._age(self._fetched_at) > self._config.keys_stale_after.total_seconds():
            raise Unavailable.of("keys", private="the token keys could not be fetched")
        return matching

    def _match(self, kid: str | None, algorithm: str) -> list[jwt.PyJWK]:
        return [
            key
            for key in self._keys
            if key.algorithm_name == algorithm and (key.key_id is None or kid is None or key.key_id == kid)
        ]

    async def _fetch(self) -> None:
        async with self._fetching:
            # Without any key nobody can sign in: then, and only then, try every second.
            cool_down = self._config.keys_cool_down.total_seconds() if self._keys else 1.0
            if self._age(self._tried_at) < cool_down:
                return
            self._tried_at = self._clock.monotonic()
            try:
                fetched = await self._source.fetch()
            except KeysUnavailable as error:
                _log.warning("token keys not fetched", extra={"detail": str(error)})
                return
            self._keys = _usable(fetched)
            self._fetched_at = self._clock.monotonic()

    def _age(self, moment: float | None) -> float:
        return float("inf") if moment is None else self._clock.monotonic() - moment


_ALGORITHMS = ("ES256", "RS256", "HS256")


def _usable(keys: Sequence[Mapping[str, Any]]) -> list[jwt.PyJWK]:
    usable = []
    for each in keys:
        try:
            key = jwt.PyJWK(dict(each))
        except jwt.PyJWTError as error:
            _log.warning("token key ignored", extra={"kid": each.get("kid"), "detail": str(error)})
            continue
        if key.algorithm_name in _ALGORITHMS:
            usable.append(key)
    return usable


def _header(token: str) -> dict[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise TokenInvalid(private=str(error)) from error


def _principal_of(claims: Mapping[str, Any], token: str) -> Principal:
    try:
        role = Role(claims.get("role", ""))
        subject = None if role is Role.SERVICE else UUID(claims["sub"])
        session_id = claims.get("session_id")
        actor = claims.get("act", {}).get("sub")
        return Principal(
            subject=subject if role is Role.AUTHENTICATED else None,
            role=role,
            session_id=UUID(session_id) if session_id else None,
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            impersonator=UUID(actor) if actor else None,
            token=token,
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise TokenInvalid(private=f"claims of the wrong shape: {error!r}") from error


def _seconds_left(principal: Principal, clock: Clock) -> float:
    if principal.expires_at is None:
        return 0.0
    return (principal.expires_at - clock.now()).total_seconds()


def bearer(header: str | None) -> str:
    """The token of an `authorization` header; raises TokenMissing, TokenInvalid."""
    if not header:
        raise TokenMissing
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise TokenInvalid(private="not a bearer token")
    return token
