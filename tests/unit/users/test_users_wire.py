from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidField
from services.users import wire
from services.users.model import PackageGrant, PackageType, User, UserRole
from streamax.users.v1 import user_pb2
from streamax.users.v1.user_admin_service_pb2 import GrantPackageRequest

MOMENT = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
#: Of the years 1 to 9999, in Unix seconds.
MOMENTS = range(-62135596800, 253402300800)
USER = User(
    id=UUID(int=1),
    email="ada@example.com",
    role=UserRole.ADMIN,
    package_type=PackageType.PRO,
    package_expires_at=MOMENT,
    streams_allowed=10,
    streams_active=2,
    created_at=MOMENT,
    updated_at=MOMENT,
)
GRANT = PackageGrant(
    id=UUID(int=2),
    user_id=UUID(int=1),
    package_type=PackageType.CREATOR,
    streams_allowed=3,
    effective_at=MOMENT,
    expires_at=None,
    granted_by=None,
    created_at=MOMENT,
)


def grant_request(**fields: Any) -> GrantPackageRequest:
    return GrantPackageRequest(user_id=str(UUID(int=1)), package_type=user_pb2.PACKAGE_TYPE_CREATOR, **fields)


def test_account_keeps_every_field() -> None:
    message = wire.user(USER)
    assert message.id == str(USER.id)
    assert message.role == user_pb2.USER_ROLE_ADMIN
    assert message.package_type == user_pb2.PACKAGE_TYPE_PRO
    assert message.package_expires_at.ToDatetime(tzinfo=UTC) == MOMENT
    assert message.create_time.ToDatetime(tzinfo=UTC) == MOMENT
    assert (message.streams_allowed, message.streams_active) == (10, 2)


def test_absent_things_are_absent() -> None:
    message = wire.user(replace(USER, email=None, package_type=None, package_expires_at=None))
    assert message.email == ""
    assert message.package_type == user_pb2.PACKAGE_TYPE_UNSPECIFIED
    assert not message.HasField("package_expires_at")
    grant = wire.package_grant(GRANT)
    assert not grant.HasField("expire_time")
    assert grant.granted_by == ""


def test_every_role_and_package_of_the_model_has_a_name_on_the_wire() -> None:
    roles = {wire.user(replace(USER, role=each)).role for each in UserRole}
    packages = {wire.user(replace(USER, package_type=each)).package_type for each in PackageType}
    assert roles == set(user_pb2.UserRole.values()) - {0}
    assert packages == set(user_pb2.PackageType.values()) - {0}


def test_etag_is_quoted_and_differs_with_the_smallest_step_of_time() -> None:
    step = timedelta(microseconds=1)
    etags = {wire.user(replace(USER, updated_at=MOMENT + n * step)).etag for n in range(1000)}
    assert len(etags) == 1000
    assert all(etag.startswith('"') and etag.endswith('"') for etag in etags)


def test_order_names_the_package_and_the_moment() -> None:
    request = grant_request(request_id=str(UUID(int=7)))
    request.expire_time.FromDatetime(MOMENT)
    order = wire.grant_order(request)
    assert (order.user_id, order.package_type) == (UUID(int=1), PackageType.CREATOR)
    assert (order.expires_at, order.request_id) == (MOMENT, UUID(int=7))
    bare = wire.grant_order(grant_request())
    assert (bare.expires_at, bare.request_id) == (None, None)


def test_fingerprint_differs_with_everything_but_the_request_id() -> None:
    request = grant_request()
    first = wire.grant_order(request).fingerprint
    request.request_id = str(UUID(int=7))
    assert wire.grant_order(request).fingerprint == first
    assert request.request_id
    request.expire_time.seconds = 1
    assert wire.grant_order(request).fingerprint != first


@given(
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from(MOMENTS),
    st.integers(-(2**31), 2**31 - 1) | st.integers(0, 10**9),
)
def test_expire_time_is_a_moment_or_refused_by_name(seconds: int, nanos: int) -> None:
    request = grant_request(expire_time={"seconds": seconds, "nanos": nanos})
    if seconds in MOMENTS and nanos in range(10**9):
        expires_at = wire.grant_order(request).expires_at
        assert expires_at is not None
        # Exactly: timestamp() is a float, and rounds up just before a second in the far future.
        assert (expires_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1) == seconds
    else:
        with pytest.raises(InvalidField) as caught:
            wire.grant_order(request)
        assert [each.field for each in caught.value.fields] == ["expire_time"]


@pytest.mark.parametrize("seconds", [MOMENTS[0], MOMENTS[-1]])
def test_first_and_last_moment_are_moments(seconds: int) -> None:
    assert wire.grant_order(grant_request(expire_time={"seconds": seconds, "nanos": 999999999}))


def test_address_with_nul_is_refused_by_name() -> None:
    with pytest.raises(InvalidField) as caught:
        wire.email("a\0@example.com")
    assert [each.field for each in caught.value.fields] == ["email"]
