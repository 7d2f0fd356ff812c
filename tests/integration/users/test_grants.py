import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chassis.errors import (
    InvalidField,
    RequestIdReused,
    ResourceNotFound,
    RoleRequired,
    TokenMissing,
)
from streamax.users.v1 import user_admin_service_pb2, user_pb2
from streamax.users.v1.user_admin_service_pb2 import GrantPackageRequest
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support.refusals import refused
from tests.support.tokens import bearer
from tests.support.users import Client

CREATOR = user_pb2.PACKAGE_TYPE_CREATOR
PRO = user_pb2.PACKAGE_TYPE_PRO
STARTER = user_pb2.PACKAGE_TYPE_STARTER


class Desk:
    """An administrator at work, and a user to be served."""

    def __init__(self, client: Client, admin: Any, user: Any) -> None:
        self.client = client
        self.admin_id, self.admin_token = admin.user.id, admin.tokens.access_token
        self.user_id, self.user_token = user.user.id, user.tokens.access_token

    async def grant(self, token: str | None = None, **fields: Any) -> user_admin_service_pb2.PackageGrant:
        request = GrantPackageRequest(**({"user_id": self.user_id, "package_type": CREATOR} | fields))
        metadata = bearer(token or self.admin_token)
        answer: user_admin_service_pb2.PackageGrant = await self.client.admin.GrantPackage(
            request, metadata=metadata
        )
        return answer

    async def me(self) -> user_pb2.User:
        me: user_pb2.User = await self.client.users.GetMe(GetMeRequest(), metadata=bearer(self.user_token))
        return me

    async def grants(self) -> int:
        count: int = await self.client.value("SELECT count(*) FROM private.package_grants")
        return count


@pytest.fixture
async def desk(client: Client) -> Desk:
    return Desk(client, await client.sign_up_admin(), await client.sign_up())


async def test_grant_becomes_the_current_package(desk: Desk) -> None:
    before = datetime.now(UTC)
    grant = await desk.grant()
    assert (grant.user_id, grant.granted_by, grant.package_type) == (desk.user_id, desk.admin_id, CREATOR)
    assert grant.streams_allowed == 3
    effective = grant.effective_time.ToDatetime(tzinfo=UTC)
    assert abs(effective - before) < timedelta(seconds=60)
    assert grant.expire_time.ToDatetime(tzinfo=UTC) - effective == timedelta(days=30)
    me = await desk.me()
    assert (me.package_type, me.streams_allowed) == (CREATOR, 3)
    assert me.package_expires_at == grant.expire_time


async def test_latest_grant_counts_and_earlier_ones_stay_in_the_ledger(desk: Desk) -> None:
    await desk.grant(package_type=PRO)
    later = await desk.grant(package_type=STARTER)
    me = await desk.me()
    assert (me.package_type, me.streams_allowed) == (STARTER, 1)
    assert me.package_expires_at == later.expire_time
    assert await desk.grants() == 2


async def test_grant_until_a_moment(desk: Desk) -> None:
    moment = datetime.now(UTC) + timedelta(days=365)
    grant = await desk.grant(expire_time=moment)
    assert grant.expire_time.ToDatetime(tzinfo=UTC) == moment
    assert (await desk.me()).package_expires_at.ToDatetime(tzinfo=UTC) == moment


@pytest.mark.parametrize("seconds", [0, 1, -(10**14), 10**14])
async def test_moment_that_is_past_or_none_is_refused(desk: Desk, seconds: int) -> None:
    with refused(InvalidField) as refusal:
        await desk.grant(expire_time={"seconds": seconds})
    assert [each.field for each in refusal.error.fields] == ["expire_time"]
    assert await desk.grants() == 0


async def test_user_may_grant_nothing_not_even_to_themselves(desk: Desk) -> None:
    with refused(RoleRequired) as refusal:
        await desk.grant(desk.user_token)
    assert refusal.error.metadata == {"method": "/streamax.users.v1.UserAdminService/GrantPackage"}
    assert await desk.grants() == 0
    assert (await desk.me()).package_type == user_pb2.PACKAGE_TYPE_UNSPECIFIED


async def test_refusal_is_the_same_whether_the_user_to_be_served_exists(desk: Desk) -> None:
    answers = []
    for user_id in (desk.user_id, str(uuid4())):
        with refused(RoleRequired) as refusal:
            await desk.grant(desk.user_token, user_id=user_id)
        answers.append(refusal.answer)
    assert answers[0] == answers[1]


async def test_administrator_is_made_by_the_database_and_unmade_at_once(desk: Desk) -> None:
    await desk.grant()
    await desk.client.execute("UPDATE public.users SET role = 'user' WHERE id = $1", UUID(desk.admin_id))
    with refused(RoleRequired):
        await desk.grant()


async def test_stranger_is_refused(desk: Desk) -> None:
    with refused(TokenMissing):
        await desk.client.admin.GrantPackage(GrantPackageRequest(user_id=desk.user_id, package_type=CREATOR))


async def test_unknown_user_is_not_found(desk: Desk) -> None:
    nobody = str(uuid4())
    with refused(ResourceNotFound) as refusal:
        await desk.grant(user_id=nobody, request_id=str(uuid4()))
    assert refusal.error.resource is not None
    assert (refusal.error.resource.type, refusal.error.resource.name) == ("User", nobody)
    assert await desk.client.value("SELECT count(*) FROM private.idempotency") == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"user_id": "me"}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"package_type": 0}, "package_type"),
        ({"package_type": 99}, "package_type"),
        ({"request_id": "again"}, "request_id"),
    ],
)
async def test_malformed_grant_names_its_field(desk: Desk, fields: dict[str, Any], named: str) -> None:
    with refused(InvalidField) as refusal:
        await desk.grant(**fields)
    assert {each.field for each in refusal.error.fields} == {named}


async def test_repeated_request_gets_the_first_answer_to_the_byte(desk: Desk) -> None:
    request_id = str(uuid4())
    first = await desk.grant(request_id=request_id)
    await desk.grant(package_type=PRO)
    again = await desk.grant(request_id=request_id)
    assert again.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
    assert await desk.grants() == 2
    assert (await desk.me()).package_type == PRO


async def test_repeat_is_answered_after_its_own_expiry(desk: Desk) -> None:
    request_id, moment = str(uuid4()), datetime.now(UTC) + timedelta(milliseconds=500)
    first = await desk.grant(request_id=request_id, expire_time=moment)
    await desk.client.execute("SELECT pg_sleep_until($1)", moment + timedelta(milliseconds=1))
    assert await desk.grant(request_id=request_id, expire_time=moment) == first


async def test_twenty_repeats_at_once_are_one_grant(desk: Desk) -> None:
    request_id = str(uuid4())
    answers = await asyncio.gather(*(desk.grant(request_id=request_id) for _ in range(20)))
    assert len({answer.id for answer in answers}) == 1
    assert await desk.grants() == 1


@pytest.mark.parametrize(
    "other", [{"package_type": PRO}, {"user_id": str(UUID(int=7))}, {"expire_time": datetime(2090, 1, 1)}]
)
async def test_request_id_with_another_request_is_refused(desk: Desk, other: dict[str, Any]) -> None:
    request_id = str(uuid4())
    await desk.grant(request_id=request_id)
    with refused(RequestIdReused):
        await desk.grant(request_id=request_id, **other)
    assert await desk.grants() == 1


async def test_request_ids_of_two_administrators_do_not_meet(desk: Desk) -> None:
    request_id, other = str(uuid4()), await desk.client.sign_up_admin()
    first = await desk.grant(request_id=request_id)
    second = await desk.grant(other.tokens.access_token, request_id=request_id)
    assert first.id != second.id


async def test_failed_request_may_be_repeated_under_its_id(desk: Desk) -> None:
    request_id = str(uuid4())
    with refused(InvalidField):
        await desk.grant(request_id=request_id, expire_time={"seconds": 1})
    assert (await desk.grant(request_id=request_id)).package_type == CREATOR


async def test_grants_at_once_leave_users_in_line_with_the_ledger(desk: Desk) -> None:
    await asyncio.gather(*(desk.grant(package_type=1 + n % 3) for n in range(30)))
    async with desk.client.database.connect() as admin:
        latest = await admin.fetch(
            "SELECT package_type, streams_allowed, expires_at FROM private.package_grants"
            " ORDER BY effective_at DESC LIMIT 1"
        )
        derived = await admin.fetch(
            "SELECT package_type, streams_allowed, package_expires_at FROM public.users WHERE id = $1",
            UUID(desk.user_id),
        )
        moments = await admin.fetchval("SELECT count(DISTINCT effective_at) FROM private.package_grants")
    assert [tuple(row) for row in latest] == [tuple(row) for row in derived]
    assert moments == 30


async def test_grant_that_began_first_and_came_last_is_the_current_one(desk: Desk) -> None:
    request_id = uuid4()
    async with desk.client.database.connect() as admin:
        held = admin.transaction()
        await held.start()
        # Makes the first grant wait before it has the user's row.
        await admin.execute(
            "INSERT INTO private.idempotency (caller, method, request_id, fingerprint, response)"
            " VALUES ($1, 'GrantPackage', $2, '', '{}')",
            UUID(desk.admin_id),
            request_id,
        )
        waiting = asyncio.create_task(desk.grant(package_type=PRO, request_id=str(request_id)))
        await desk.client.wait_for_waiters()
        overtaking = await desk.grant(package_type=STARTER)
        await held.rollback()
        last = await waiting
    assert last.effective_time.ToDatetime() > overtaking.effective_time.ToDatetime()
    assert (await desk.me()).package_type == PRO


async def test_grant_is_the_current_one_though_the_clock_was_set_back(desk: Desk) -> None:
    await desk.client.execute(
        "INSERT INTO private.package_grants (user_id, package_type, streams_allowed, effective_at, source)"
        " SELECT $1, 'pro', 10, now() + hours * interval '1 h', 'import' FROM unnest(ARRAY[-1, 1]) hours",
        UUID(desk.user_id),
    )
    await desk.grant(package_type=STARTER)
    assert (await desk.me()).package_type == STARTER


async def test_downgrade_below_what_runs_is_possible(desk: Desk) -> None:
    await desk.grant(package_type=PRO)
    await desk.client.execute(
        "SELECT public.increment_user_streams($1) FROM generate_series(1, 8)", UUID(desk.user_id)
    )
    await desk.grant(package_type=STARTER)
    me = await desk.me()
    assert (me.streams_allowed, me.streams_active) == (1, 8)


async def test_grant_changes_the_etag_and_leaves_the_numbering_of_changes_without_gap(desk: Desk) -> None:
    before = await desk.me()
    await desk.grant()
    after = await desk.me()
    assert after.etag != before.etag
    assert (await desk.me()).etag == after.etag
    gaps = await desk.client.value(
        "SELECT count(*) FROM public.users u WHERE u.revision <>"
        " (SELECT count(*) FROM private.session_changes c WHERE c.user_id = u.id)"
    )
    assert gaps == 0
