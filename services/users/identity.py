"""Sign-up, sign-in and refresh: who somebody is, and the tokens that say so."""

from uuid import UUID, uuid4

from services.chassis.database import Database
from services.chassis.vault import Vault
from services.users import store
from services.users.config import TokenConfig
from services.users.credentials import Passwords
from services.users.errors import CredentialsInvalid, RefreshTokenInvalid
from services.users.model import Session, SignedIn, Tokens, User
from services.users.tokens import (
    AccessTokens,
    first_refresh_token,
    refresh_token_after,
    refresh_token_hash,
)


class Identity:
    """Accounts by e-mail and password; addresses arrive normalised (`wire.email`)."""

    def __init__(
        self,
        config: TokenConfig,
        *,
        db: Database,
        vault: Vault,
        passwords: Passwords,
        access_tokens: AccessTokens,
    ) -> None:
        self._config = config
        self._db = db
        self._vault = vault
        self._passwords = passwords
        self._access_tokens = access_tokens

    async def sign_up(self, email: str, password: str) -> SignedIn:
        """Make an account and its first session. Raises EmailUnavailable, RateLimited."""
        session_id, refresh_token = uuid4(), first_refresh_token()
        user = await store.sign_up(
            self._db,
            email=email,
            password_hash=await self._passwords.hash(password),
            session_id=session_id,
            token_hash=refresh_token_hash(refresh_token),
            refresh_lifetime=self._config.refresh_lifetime,
        )
        return self._signed_in(user, session_id, refresh_token)

    async def sign_in(self, email: str, password: str) -> SignedIn:
        """Open a session. Raises CredentialsInvalid, RateLimited.

        An unknown address costs one hash like a known one, and the refusal is the same.
        """
        known = await store.find_credentials(self._db, email=email)
        matched = await self._passwords.matches(known.password_hash if known else None, password)
        if known is None or not matched:
            raise CredentialsInvalid
        session_id, refresh_token = uuid4(), first_refresh_token()
        user = await store.open_session(
            self._db,
            credentials=known,
            renewed_hash=await self._passwords.renewed(known.password_hash, password),
            session_id=session_id,
            token_hash=refresh_token_hash(refresh_token),
            refresh_lifetime=self._config.refresh_lifetime,
        )
        if user is None:
            # The password was changed while this one was being compared.
            raise CredentialsInvalid
        return self._signed_in(user, session_id, refresh_token)

    async def refresh(self, refresh_token: str) -> Tokens:
        """Spend a refresh token for a new pair. Raises RefreshTokenInvalid."""
        rotation = await store.rotate_refresh_token(
            self._db,
            token_hash=refresh_token_hash(refresh_token),
            successor_hash=refresh_token_hash(refresh_token_after(refresh_token, self._vault)),
            reuse_interval=self._config.reuse_interval,
            refresh_lifetime=self._config.refresh_lifetime,
        )
        if rotation.unspent is None:
            raise RefreshTokenInvalid(private=f"the refresh token is {rotation.outcome}")
        unspent = refresh_token_after(refresh_token, self._vault, steps=rotation.unspent.steps)
        if refresh_token_hash(unspent) != rotation.unspent.token_hash:
            raise RefreshTokenInvalid(private="the successor was derived by a vault key we no longer have")
        return self._tokens(rotation.unspent.session, unspent)

    def _signed_in(self, user: User, session_id: UUID, refresh_token: str) -> SignedIn:
        session = Session(id=session_id, user_id=user.id, email=user.email)
        return SignedIn(user=user, tokens=self._tokens(session, refresh_token))

    def _tokens(self, session: Session, refresh_token: str) -> Tokens:
        return Tokens(
            access_token=self._access_tokens.issue(session),
            expires_in=self._access_tokens.lifetime,
            refresh_token=refresh_token,
        )
