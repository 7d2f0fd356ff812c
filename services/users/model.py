"""What the users service speaks about; no I/O."""

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class UserRole(StrEnum):
    """`users.role`; the only thing that makes an administrator."""

    USER = "user"
    ADMIN = "admin"


class PackageType(StrEnum):
    """`users.package_type`."""

    STARTER = "starter"
    CREATOR = "creator"
    PRO = "pro"


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account as its owner sees it."""

    id: UUID
    #: None for accounts without one (Supabase's phone and anonymous users).
    email: str | None
    role: UserRole
    package_type: PackageType | None
    #: None: the package does not expire, or there is none.
    package_expires_at: datetime | None
    streams_allowed: int
    streams_active: int
    created_at: datetime
    #: Later with every change, whatever the clock does (trigger touch_user).
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantOrder:
    """A checked request to give a user a package."""

    user_id: UUID
    package_type: PackageType
    #: None: the package's own duration from now.
    expires_at: datetime | None
    request_id: UUID | None
    #: Equal for requests that differ in nothing but their request_id.
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageGrant:
    """One entry of the append-only ledger of entitlements."""

    id: UUID
    user_id: UUID
    package_type: PackageType
    streams_allowed: int
    effective_at: datetime
    #: None: never.
    expires_at: datetime | None
    #: The administrator; None for a grant that no person made.
    granted_by: UUID | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What sign-in compares a password with."""

    user_id: UUID
    password_hash: str = field(repr=False)
    #: When the password was chosen; a new hash of the same password leaves it.
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One sign-in of one user; its refresh tokens are one family."""

    id: UUID
    user_id: UUID
    email: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a signed-in client keeps."""

    access_token: str = field(repr=False)
    expires_in: timedelta
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """The answer to a sign-up or a sign-in."""

    user: User
    tokens: Tokens


class RotationOutcome(StrEnum):
    """What became of a refresh token that was handed in; for the log, never for the caller."""

    #: It was unspent: now it is spent and its successor exists.
    ROTATED = "rotated"
    #: It was spent within the reuse interval: the race gets the family's unspent token.
    REPEATED = "repeated"
    #: It was spent longer ago: it was stolen or the thief is racing us, so the family is revoked.
    REUSED = "reused"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnspentToken:
    """The one refresh token of a family that may still be spent."""

    session: Session
    #: How many successions from the token handed in to this one.
    steps: int
    #: sha256.
    token_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """The database's verdict on a refresh token."""

    outcome: RotationOutcome
    #: Set for ROTATED and REPEATED only.
    unspent: UnspentToken | None


class KeyStatus(StrEnum):
    """What a published key is for; a revoked one is not published, nor read here."""

    STANDBY = "standby"
    CURRENT = "current"
    PREVIOUS = "previous"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonWebKey:
    """A public P-256 key; the field names are RFC 7517's."""

    kid: str
    kty: str
    alg: str
    use: str
    crv: str
    x: str
    y: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A row of private.signing_keys."""

    status: KeyStatus
    public: JsonWebKey
    #: Only the vault can open it.
    sealed_private: bytes = field(repr=False)


def normalise_email(email: str) -> str:
    """The one spelling under which an address is stored and looked up."""
    return unicodedata.normalize("NFC", email.strip()).lower()


def normalise_password(password: str) -> str:
    """RFC 8265's OpaqueString normalisation.

    macOS and Windows keyboards spell "é" differently (NFD, NFC); without this a password
    typed on one is wrong on the other.
    """
    return unicodedata.normalize("NFC", password)
