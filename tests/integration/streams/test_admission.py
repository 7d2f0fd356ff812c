"""Admission, stopping and settling as the database does them: no slot lost, none given twice."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from services.chassis.database import Database, DatabaseConfig
from services.chassis.errors import Error, EtagMismatch, RequestIdReused, ResourceNotFound
from services.streams import store
from services.streams.errors import (
    DestinationInUse,
    PackageExpired,
    PackageMissing,
    QuotaExceeded,
    RevisionExpired,
)
from services.streams.model import Cause, ChangeKind, Session, Status
from tests.support import database as support


@pytest.fixture
async def db(database: support.Database) -> AsyncIterator[Database]:
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_max=8)
    async with Database(config, application_name="test") as pool:
        yield pool


@pytest.fixture
async def epoch(db: Database) -> int:
    taken: int = await db.fetchval("SELECT private.take_leadership('streams', 'test')")
    return taken


def wish(
    *, request_id: UUID | None = None, fingerprint: bytes = b"f", target: bytes | None = None
) -> store.NewSession:
    return store.NewSession(
        id=uuid4(),
        video_source="loop.mp4",
        rtmp_url="rtmp://a.rtmp.youtube.com/live2",
        target_hash=target or uuid4().bytes,
        sealed_key=b"sealed",
        request_id=request_id,
        fingerprint=fingerprint,
    )


def seen(session: Session, status: Status, **changes: object) -> store.Observation:
    values: dict[str, object] = {
        "session_id": session.id,
        "generation": session.generation,
        "status": status,
        "cause": None,
        "cause_detail": "",
        "container_id": "c1",
        "started_at": None,
    }
    return store.Observation(**(values | changes))  # type: ignore[arg-type]  # a test's shorthand


async def add_user(database: support.Database, **columns: object) -> UUID:
    async with database.connect() as connection:
        return await support.add_user(connection, **columns)  # type: ignore[arg-type]


async def slots(database: support.Database, user: UUID) -> int:
    async with database.connect() as connection:
        count: int = await connection.fetchval("SELECT streams_active FROM public.users WHERE id = $1", user)
        return count


async def drift(database: support.Database) -> list[object]:
    async with database.connect() as connection:
        return list(await connection.fetch("SELECT * FROM private.slot_drift()"))


async def test_of_two_hundred_starts_at_once_exactly_the_allowed_three_are_admitted(
    db: Database, database: support.Database
) -> None:
    user = await add_user(database, streams_allowed=3)
    outcomes = await asyncio.gather(
        *(store.start_stream(db, user, wish()) for _ in range(200)), return_exceptions=True
    )
    assert Counter(type(outcome) for outcome in outcomes) == {Session: 3, QuotaExceeded: 197}
    refusal = next(outcome for outcome in outcomes if isinstance(outcome, QuotaExceeded))
    assert (refusal.metadata["limit"], refusal.metadata["active"]) == ("3", "3")
    assert refusal.quota[0].subject == f"user:{user}"
    assert await slots(database, user) == 3
    assert await drift(database) == []


async def test_one_request_id_sent_many_times_at_once_starts_one_stream(
    db: Database, database: support.Database
) -> None:
    user, request_id = await add_user(database), uuid4()
    sessions = await asyncio.gather(
        *(store.start_stream(db, user, wish(request_id=request_id)) for _ in range(20))
    )
    assert len({session.id for session in sessions}) == 1
    assert len(set(sessions)) == 1
    assert await slots(database, user) == 1


async def test_a_repeat_gets_the_first_answer_even_after_the_session_moved_on(
    db: Database, database: support.Database, epoch: int
) -> None:
    user, request_id = await add_user(database), uuid4()
    first = await store.start_stream(db, user, wish(request_id=request_id))
    await store.record_observation(db, epoch, seen(first, Status.RUNNING))
    assert await store.start_stream(db, user, wish(request_id=request_id)) == first


async def test_a_request_id_with_another_request_is_refused(db: Database, database: support.Database) -> None:
    user, request_id = await add_user(database), uuid4()
    await store.start_stream(db, user, wish(request_id=request_id))
    with pytest.raises(RequestIdReused):
        await store.start_stream(db, user, wish(request_id=request_id, fingerprint=b"other"))


async def test_a_refused_start_leaves_its_request_id_unused(db: Database, database: support.Database) -> None:
    user, request_id = await add_user(database, streams_allowed=0), uuid4()
    with pytest.raises(QuotaExceeded):
        await store.start_stream(db, user, wish(request_id=request_id))
    async with database.connect() as connection:
        await connection.execute("UPDATE public.users SET streams_allowed = 1 WHERE id = $1", user)
    session = await store.start_stream(db, user, wish(request_id=request_id, fingerprint=b"changed"))
    assert session.status is Status.STARTING


async def test_without_a_package_nothing_starts(db: Database, database: support.Database) -> None:
    with pytest.raises(PackageMissing):
        await store.start_stream(db, await add_user(database, package_type=None), wish())


async def test_an_expired_package_starts_nothing_and_says_when_it_expired(
    db: Database, database: support.Database
) -> None:
    user = await add_user(database)
    async with database.connect() as connection:
        await connection.execute(
            "UPDATE public.users SET package_expires_at = now() - interval '1 second' WHERE id = $1", user
        )
    with pytest.raises(PackageExpired) as refusal:
        await store.start_stream(db, user, wish())
    assert datetime.fromisoformat(refusal.value.metadata["expired_at"]) < datetime.now(UTC)


async def test_an_unknown_user_is_not_found(db: Database) -> None:
    with pytest.raises(ResourceNotFound):
        await store.start_stream(db, uuid4(), wish())


async def test_one_destination_takes_one_stream_and_the_slot_of_the_second_is_not_taken(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    first = await store.start_stream(db, user, wish(target=b"t"))
    with pytest.raises(DestinationInUse):
        await store.start_stream(db, user, wish(target=b"t"))
    assert await slots(database, user) == 1
    await store.record_observation(db, epoch, seen(first, Status.ERROR, cause=Cause.KEY_REJECTED))
    await store.start_stream(db, user, wish(target=b"t"))


async def test_a_stop_keeps_the_slot_until_the_container_is_gone(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    stopping = await store.request_stop(db, user, session.id, revision=None)
    assert (stopping.status, stopping.cause) == (Status.STOPPING, Cause.USER)
    assert await slots(database, user) == 1
    assert await store.record_observation(db, epoch, seen(stopping, Status.STOPPED, cause=Cause.USER))
    assert await slots(database, user) == 0
    stopped = await store.get_session(db, user, session.id)
    assert stopped is not None
    assert stopped.stopped_at is not None


async def test_a_second_stop_changes_nothing(db: Database, database: support.Database) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    first = await store.request_stop(db, user, session.id, revision=None)
    assert await store.request_stop(db, user, session.id, revision=None) == first


async def test_a_stop_with_an_outdated_revision_is_refused_and_names_the_current_one(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    await store.record_observation(db, epoch, seen(session, Status.RUNNING))
    with pytest.raises(EtagMismatch) as refusal:
        await store.request_stop(db, user, session.id, revision=session.revision)
    assert refusal.value.metadata["etag"] == f'"{session.revision + 1}"'


async def test_another_users_session_does_not_exist(db: Database, database: support.Database) -> None:
    owner, other = await add_user(database), await add_user(database)
    session = await store.start_stream(db, owner, wish())
    assert await store.get_session(db, other, session.id) is None
    assert await store.list_sessions(db, other, statuses=(), before=None, limit=9) == []
    with pytest.raises(ResourceNotFound):
        await store.request_stop(db, other, session.id, revision=None)


async def test_settling_twice_frees_one_slot(db: Database, database: support.Database, epoch: int) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    await store.start_stream(db, user, wish())
    assert await store.record_observation(db, epoch, seen(session, Status.ERROR, cause=Cause.SOURCE))
    assert not await store.record_observation(db, epoch, seen(session, Status.ERROR, cause=Cause.SOURCE))
    assert await slots(database, user) == 1


async def test_an_observation_of_an_old_generation_is_not_taken(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    order = await store.take_order(db, epoch, session.id, 1, renew=True)
    assert order is not None
    assert order.generation == 2
    assert not await store.record_observation(db, epoch, seen(session, Status.RUNNING))


async def test_a_replaced_leader_writes_nothing(db: Database, database: support.Database, epoch: int) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    await db.fetchval("SELECT private.take_leadership('streams', 'successor')")
    with pytest.raises(Error):
        await store.record_observation(db, epoch, seen(session, Status.RUNNING))
    with pytest.raises(Error):
        await store.take_order(db, epoch, session.id, 1, renew=False)


async def test_nothing_is_ordered_once_a_stop_is_wanted(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    await store.request_stop(db, user, session.id, revision=None)
    assert await store.take_order(db, epoch, session.id, 1, renew=False) is None
    assert await store.take_order(db, epoch, session.id, 1, renew=True) is None


async def test_totals_never_go_back_when_a_new_encoder_counts_from_zero(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())

    async def measure(generation: int, seconds: float) -> None:
        one = store.Measurement(
            session_id=session.id,
            generation=generation,
            delivered_seconds=seconds,
            acknowledged_bytes=int(seconds * 1000),
            bitrate_kbps=8.0,
            attempts=1,
            measured_at=datetime.now(UTC),
        )
        await store.record_delivery(db, epoch, [one])

    for generation, seconds in ((1, 10.0), (1, 20.0), (2, 1.0), (2, 5.0), (1, 99.0), (3, 1.0)):
        await measure(generation, seconds)
    found = await store.get_session(db, user, session.id)
    assert found is not None
    assert found.delivery is not None
    assert (found.delivery.delivered_seconds, found.delivery.acknowledged_bytes) == (26.0, 26_000)
    assert found.delivery.attempts == 3


async def test_every_change_is_in_the_log_once_and_in_order_under_concurrency(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database, streams_allowed=20)
    sessions = await asyncio.gather(*(store.start_stream(db, user, wish()) for _ in range(20)))
    await asyncio.gather(
        *(
            store.record_observation(db, epoch, seen(one, Status.RUNNING, container_id=str(one.id)))
            for one in sessions
        ),
        *(store.request_stop(db, user, one.id, revision=None) for one in sessions[:10]),
    )
    changes = await store.changes_after(db, user, 0, limit=1000)
    assert [change.revision for change in changes] == list(range(1, len(changes) + 1))
    assert Counter(change.kind for change in changes)[ChangeKind.ADDED] == 20
    assert all(change.session.revision == change.revision for change in changes)


async def test_pages_follow_each_other_without_gap_or_repeat(
    db: Database, database: support.Database
) -> None:
    user = await add_user(database, streams_allowed=7)
    for _ in range(7):
        await store.start_stream(db, user, wish())
    first = await store.list_sessions(db, user, statuses=(), before=None, limit=3)
    second = await store.list_sessions(
        db, user, statuses=(), before=(first[-1].created_at, first[-1].id), limit=9
    )
    whole = await store.list_sessions(db, user, statuses=(), before=None, limit=9)
    assert [*first, *second] == whole
    assert [one.created_at for one in whole] == sorted((one.created_at for one in whole), reverse=True)
    assert await store.list_sessions(db, user, statuses=(Status.RUNNING,), before=None, limit=9) == []


async def test_trimmed_history_is_refused_by_name_and_the_present_is_not(
    db: Database, database: support.Database, epoch: int
) -> None:
    user = await add_user(database)
    session = await store.start_stream(db, user, wish())
    await store.record_observation(db, epoch, seen(session, Status.RUNNING))
    async with database.connect() as connection:
        await connection.execute(
            "UPDATE private.session_changes SET created_at = now() - interval '1 hour' WHERE revision = 1"
        )
    assert await store.trim_changes(db, epoch, keep_seconds=timedelta(minutes=30).total_seconds()) == 1
    with pytest.raises(RevisionExpired) as refusal:
        await store.changes_after(db, user, 0, limit=10)
    assert refusal.value.metadata["oldest_revision"] == "1"
    assert [change.revision for change in await store.changes_after(db, user, 1, limit=10)] == [2]
    assert await store.changes_after(db, user, 2, limit=10) == []
    with pytest.raises(RevisionExpired):
        await store.changes_after(db, user, 3, limit=10)
