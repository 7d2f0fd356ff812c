"""Every statement of the users service: one function per named query."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

from asyncpg import Record

import sql
from services.chassis.database import Database
from services.chassis.errors import ResourceNotFound
from services.users.model import (
    Credentials,
    GrantOrder,
    JsonWebKey,
    KeyStatus,
    PackageGrant,
    PackageType,
    Rotation,
    RotationOutcome,
    Session,
    StoredKey,
    UnspentToken,
    User,
    UserRole,
)

_QUERIES = sql.queries("users")


async def sign_up(
    db: Database,
    *,
    email: str,
    password_hash: str,
    session_id: UUID,
    token_hash: bytes,
    refresh_lifetime: timedelta,
) -> User:
    """Make an account, its credentials and its first session. Raises EmailUnavailable."""
    row = await db.fetchrow(
        _QUERIES["sign_up"], email, password_hash, session_id, token_hash, refresh_lifetime
    )
    return _user(_required(row))


async def find_credentials(db: Database, *, email: str) -> Credentials | None:
    """What to compare the password with; None for an unknown address."""
    row = await db.fetchrow(_QUERIES["find_credentials"], email)
    if row is None:
        return None
    return Credentials(
        user_id=row["user_id"], password_hash=row["password_hash"], changed_at=row["changed_at"]
    )


async def open_session(
    db: Database,
    *,
    credentials: Credentials,
    renewed_hash: str | None,
    session_id: UUID,
    token_hash: bytes,
    refresh_lifetime: timedelta,
) -> User | None:
    """Begin a session; None when the password has been changed since the credentials were read."""
    row = await db.fetchrow(
        _QUERIES["open_session"],
        credentials.user_id,
        credentials.changed_at,
        renewed_hash,
        session_id,
        token_hash,
        refresh_lifetime,
    )
    return None if row is None else _user(row)


async def rotate_refresh_token(
    db: Database,
    *,
    token_hash: bytes,
    successor_hash: bytes,
    reuse_interval: timedelta,
    refresh_lifetime: timedelta,
) -> Rotation:
    """Spend a refresh token for its successor; refusals are outcomes, not errors."""
    row = _required(
        await db.fetchrow(
            _QUERIES["rotate_refresh_token"], token_hash, successor_hash, reuse_interval, refresh_lifetime
        )
    )
    outcome = RotationOutcome(row["outcome"])
    if row["session_id"] is None:
        return Rotation(outcome=outcome, unspent=None)
    session = Session(id=row["session_id"], user_id=row["user_id"], email=row["email"])
    return Rotation(
        outcome=outcome,
        unspent=UnspentToken(session=session, steps=row["steps"], token_hash=row["unspent_hash"]),
    )


async def get_me(db: Database, caller: UUID) -> User:
    """The caller's own account. Raises ResourceNotFound when it is gone."""
    row = await db.fetchrow(_QUERIES["get_me"], caller)
    if row is None:
        raise ResourceNotFound.of("User", caller)
    return _user(row)


async def grant_package(db: Database, caller: UUID, order: GrantOrder) -> PackageGrant:
    """Give a user a package from now on, or return the first answer of this request_id.

    Raises RoleRequired, ResourceNotFound, RequestIdReused, InvalidField (expire_time is past).
    """
    row = _required(
        await db.fetchrow(
            _QUERIES["grant_package"],
            caller,
            order.user_id,
            order.package_type,
            order.expires_at,
            order.request_id,
            order.fingerprint,
        )
    )
    return PackageGrant(
        id=row["id"],
        user_id=row["user_id"],
        package_type=PackageType(row["package_type"]),
        streams_allowed=row["streams_allowed"],
        effective_at=row["effective_at"],
        expires_at=row["expires_at"],
        granted_by=row["granted_by"],
        created_at=row["created_at"],
    )


async def list_signing_keys(db: Database) -> Sequence[StoredKey]:
    """The keys to sign with and to publish, oldest first; revoked ones are not among them."""
    return [_stored_key(row) for row in await db.fetch(_QUERIES["list_signing_keys"])]


async def add_first_signing_key(db: Database, key: StoredKey) -> None:
    """Make this the current key unless there is one already."""
    await db.execute(
        _QUERIES["add_first_signing_key"],
        key.public.kid,
        key.public.alg,
        asdict(key.public),
        key.sealed_private,
    )


def _required(row: Record | None) -> Record:
    """For functions that raise or return a row, never neither."""
    if row is None:
        raise LookupError("the database answered without a row")
    return row


def _user(row: Record) -> User:
    return User(
        id=row["id"],
        email=row["email"],
        role=UserRole(row["role"]),
        package_type=PackageType(row["package_type"]) if row["package_type"] else None,
        package_expires_at=row["package_expires_at"],
        streams_allowed=row["streams_allowed"],
        streams_active=row["streams_active"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _stored_key(row: Record) -> StoredKey:
    public = JsonWebKey(
        kid=row["kid"],
        kty=row["kty"],
        alg=row["alg"],
        use=row["use"],
        crv=row["crv"],
        x=row["x"],
        y=row["y"],
    )
    return StoredKey(status=KeyStatus(row["status"]), public=public, sealed_private=row["sealed_private"])
