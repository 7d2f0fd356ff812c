"""Access tokens in Supabase's claim shape, and refresh tokens that name their successor.

An access token is a JWT signed ES256 that any service verifies by our published keys.

A refresh token is 32 random bytes and the database holds only its sha256. When two requests
of one client race with the same token, both must get the same new token, or the slower one's
client is logged out. The second request's answer is the first one's plain text, which nobody
has kept. So a successor is not drawn at random but derived: a MAC of the token it replaces
under the vault's key. Whoever holds the parent and the vault can say the successor again;
the parent alone says nothing (the MAC is keyed), and neither do the vault and the database
together (the database has no plain token to begin from).
"""

import secrets
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from typing import Final

import jwt

from services.chassis.clock import Clock
from services.chassis.vault import Vault
from services.users.config import TokenConfig
from services.users.keys import KeyRing
from services.users.model import Session

#: Supabase's name, as role and as audience, for whoever is signed in. What a user may do beyond
#: that the database decides: `users.role` is in no token.
AUTHENTICATED: Final = "authenticated"


class AccessTokens:
    """Signs access tokens by the current key."""

    def __init__(self, config: TokenConfig, *, keys: KeyRing, clock: Clock) -> None:
        self._config = config
        self._keys = keys
        self._clock = clock

    @property
    def lifetime(self) -> timedelta:
        """How long a token is good for."""
        return self._config.access_lifetime

    def issue(self, session: Session) -> str:
        """A token for the session's user from now on."""
        issued_at = int(self._clock.now().timestamp())
        claims = {
            "iss": self._config.issuer,
            "aud": AUTHENTICATED,
            "sub": str(session.user_id),
            "role": AUTHENTICATED,
            "session_id": str(session.id),
            "iat": issued_at,
            "exp": issued_at + int(self.lifetime.total_seconds()),
            "aal": "aal1",
            "email": session.email or "",
            "phone": "",
            "is_anonymous": False,
            "app_metadata": {},
            "user_metadata": {},
        }
        key = self._keys.current
        return jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.kid})


def first_refresh_token() -> str:
    """The root of a family."""
    return secrets.token_urlsafe(32)


def refresh_token_hash(token: str) -> bytes:
    """What the database knows a refresh token by."""
    return sha256(token.encode()).digest()


def refresh_token_after(token: str, vault: Vault, *, steps: int = 1) -> str:
    """The token that many successions later in its family."""
    for _ in range(steps):
        mac = vault.fingerprint(token.encode(), purpose="users/refresh-token/successor")
        token = urlsafe_b64encode(mac).rstrip(b"=").decode()
    return token
