"""Messages to model and back; pure."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from services.chassis.errors import InvalidField
from services.users.model import (
    GrantOrder,
    JsonWebKey,
    PackageGrant,
    PackageType,
    Tokens,
    User,
    UserRole,
    normalise_email,
)
from streamax.users.v1 import auth_service_pb2, user_admin_service_pb2, user_pb2

_ROLES = {
    UserRole.USER: user_pb2.USER_ROLE_USER,
    UserRole.ADMIN: user_pb2.USER_ROLE_ADMIN,
}
_PACKAGE_TYPES = {
    PackageType.STARTER: user_pb2.PACKAGE_TYPE_STARTER,
    PackageType.CREATOR: user_pb2.PACKAGE_TYPE_CREATOR,
    PackageType.PRO: user_pb2.PACKAGE_TYPE_PRO,
}
_PACKAGE_TYPES_BACK = {number: kind for kind, number in _PACKAGE_TYPES.items()}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: The moments a google.protobuf.Timestamp may hold: 0001-01-01 to 9999-12-31.
_TIMESTAMP_SECONDS = range(-62135596800, 253402300800)


def email(text: str) -> str:
    """The address in the spelling under which it is stored and looked up. Raises InvalidField."""
    if "\0" in text:
        # Legal in a protobuf string, refused by PostgreSQL's text with an error of its own.
        raise InvalidField.of("email", "must not contain a NUL character")
    return normalise_email(text)


def user(account: User) -> user_pb2.User:
    message = user_pb2.User(
        id=str(account.id),
        email=account.email or "",
        role=_ROLES[account.role],
        streams_allowed=account.streams_allowed,
        streams_active=account.streams_active,
        create_time=account.created_at,
        etag=_etag(account),
    )
    if account.package_type is not None:
        message.package_type = _PACKAGE_TYPES[account.package_type]
    if account.package_expires_at is not None:
        message.package_expires_at.FromDatetime(account.package_expires_at)
    return message


def tokens(pair: Tokens) -> auth_service_pb2.Tokens:
    expires_in = Duration()
    expires_in.FromTimedelta(pair.expires_in)
    return auth_service_pb2.Tokens(
        access_token=pair.access_token, expires_in=expires_in, refresh_token=pair.refresh_token
    )


def json_web_key(key: JsonWebKey) -> auth_service_pb2.JsonWebKey:
    return auth_service_pb2.JsonWebKey(
        kid=key.kid, kty=key.kty, alg=key.alg, use=key.use, crv=key.crv, x=key.x, y=key.y
    )


def grant_order(request: user_admin_service_pb2.GrantPackageRequest) -> GrantOrder:
    """Raises InvalidField for an expire_time that is no moment."""
    return GrantOrder(
        user_id=UUID(request.user_id),
        package_type=_PACKAGE_TYPES_BACK[request.package_type],
        expires_at=_moment(request.expire_time) if request.HasField("expire_time") else None,
        request_id=UUID(request.request_id) if request.request_id else None,
        fingerprint=_fingerprint(request),
    )


def package_grant(grant: PackageGrant) -> user_admin_service_pb2.PackageGrant:
    message = user_admin_service_pb2.PackageGrant(
        id=str(grant.id),
        user_id=str(grant.user_id),
        package_type=_PACKAGE_TYPES[grant.package_type],
        streams_allowed=grant.streams_allowed,
        effective_time=grant.effective_at,
        granted_by=str(grant.granted_by) if grant.granted_by else "",
        create_time=grant.created_at,
    )
    if grant.expires_at is not None:
        message.expire_time.FromDatetime(grant.expires_at)
    return message


def _etag(account: User) -> str:
    """Quoted like an HTTP entity tag (AIP-154)."""
    return f'"{(account.updated_at - _EPOCH) // timedelta(microseconds=1)}"'


def _fingerprint(request: user_admin_service_pb2.GrantPackageRequest) -> bytes:
    """What makes two requests the same: all but the request_id."""
    same = user_admin_service_pb2.GrantPackageRequest()
    same.CopyFrom(request)
    same.ClearField("request_id")
    return sha256(same.SerializeToString(deterministic=True)).digest()


def _moment(timestamp: Timestamp) -> datetime:
    if timestamp.seconds not in _TIMESTAMP_SECONDS or not 0 <= timestamp.nanos < 10**9:
        raise InvalidField.of("expire_time", "must be a moment of the years 1 to 9999")
    return timestamp.ToDatetime(tzinfo=UTC)
