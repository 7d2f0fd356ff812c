"""Watching when hints are lost, readers are slow and many things happen at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from services.chassis.clock import SystemClock
from services.chassis.database import Database, DatabaseConfig
from services.chassis.errors import ResourceNotFound
from services.streams import store
from services.streams.model import Change, Status
from services.streams.wake import Waker
from services.streams.watch import Bookmark, Watch
from tests.support import database as support
from tests.support.polling import until


@pytest.fixture
async def db(database: support.Database) -> AsyncIterator[Database]:
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_max=6)
    async with Database(config, application_name="test") as pool:
        yield pool


@pytest.fixture
async def user(database: support.Database) -> UUID:
    async with database.connect() as connection:
        return await support.add_user(connection, streams_allowed=1000)


def watching(db: Database, *, bookmark_every: float = 60) -> Watch:
    return Watch(db, SystemClock(), bookmark_every=timedelta(seconds=bookmark_every))


async def start(db: Database, user: UUID) -> None:
    new = store.NewSession(
        id=uuid4(),
        video_source="loop.mp4",
        rtmp_url="rtmp://a.rtmp.youtube.com/live2",
        target_hash=uuid4().bytes,
        sealed_key=b"sealed",
        request_id=None,
        fingerprint=b"",
    )
    await store.start_stream(db, user, new)


async def test_a_lost_hint_is_made_good_by_the_poll(
    db: Database, user: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, look = asyncio.Event(), store.changes_after

    async def noted(db: Database, caller: UUID, revision: int, *, limit: int) -> list[Change]:
        found = await look(db, caller, revision, limit=limit)
        looked.set()
        return found

    monkeypatch.setattr(store, "changes_after", noted)
    watch = watching(db)
    async with aclosing(watch.follow(user, 0, until=None)) as events:
        assert isinstance(await anext(events), Bookmark)
        following = asyncio.ensure_future(anext(events))
        await looked.wait()
        await start(db, user)
        await asyncio.wait((following,), timeout=0.2)
        assert not following.done(), "nobody told the watch"
        await watch.poll()
        change = await following
    assert isinstance(change, Change)
    assert change.revision == 1


async def test_the_poll_asks_nothing_without_watchers_and_forgets_those_that_left(
    db: Database, user: UUID
) -> None:
    watch = watching(db)
    async with aclosing(watch.follow(user, 0, until=None)) as events:
        await anext(events)
    await watch.poll()
    watch.wake([user])
    watch.wake(None)


async def test_an_idle_watch_says_how_far_it_is(db: Database, user: UUID) -> None:
    watch = watching(db, bookmark_every=0.05)
    async with aclosing(watch.follow(user, 0, until=None)) as events:
        assert await anext(events) == Bookmark(0, initial_sync=True)
        assert await anext(events) == Bookmark(0)


async def test_a_watch_of_a_user_who_is_gone_says_so(db: Database) -> None:
    with pytest.raises(ResourceNotFound):
        await anext(watching(db).follow(uuid4(), 0, until=None))


async def test_a_reader_that_stood_still_gets_every_change_in_order(db: Database, user: UUID) -> None:
    watch = watching(db)
    async with aclosing(watch.follow(user, 0, until=None)) as events:
        await anext(events)
        for _ in range(450):  # more than two pages of the log
            await start(db, user)
        watch.wake([user])
        revisions = [(await anext(events)).revision for _ in range(450)]
    assert revisions == list(range(1, 451))


async def test_watchers_that_come_and_go_under_load_miss_nothing(db: Database, user: UUID) -> None:
    watch = watching(db)
    total = 120

    async def write() -> None:
        for _ in range(total // 4):
            await start(db, user)
            watch.wake([user])

    async def read(patience: int) -> list[int]:
        """Follows in short watches, each resumed where the last one ended."""
        seen: list[int] = []
        resume = 0
        while resume < total:
            async with aclosing(watch.follow(user, resume, until=None)) as events:
                for _ in range(patience):
                    event = await anext(events)
                    if isinstance(event, Change):
                        seen.append(event.revision)
                    resume = max(resume, event.revision)
                    if resume >= total:
                        break
        return seen

    readers = [asyncio.ensure_future(read(patience)) for patience in (1, 3, 50)]
    await asyncio.gather(*(write() for _ in range(4)))
    for reader in readers:
        seen = await reader
        # A watch begun at 0 starts with a snapshot, whose entries are the sessions of that moment.
        assert sorted(set(seen)) == list(range(1, total + 1))
        assert seen == sorted(seen)


async def test_processes_hear_of_each_others_commits(db: Database, user: UUID) -> None:
    here, there = Waker(db), Waker(db)
    heard: asyncio.Queue[frozenset[UUID] | None] = asyncio.Queue()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one.run()) for one in (here, there)]
        with there.listening(heard.put_nowait):
            # Until the other listens, nothing is heard.
            while await _told(here, heard, user) != frozenset((user,)):
                continue
        for task in running:
            task.cancel()


async def test_a_hint_without_a_database_is_lost_and_the_next_one_is_not(
    db: Database,
    database: support.Database,
    cluster: support.Cluster,
    user: UUID,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    here, there = Waker(db), Waker(db)
    heard: asyncio.Queue[frozenset[UUID] | None] = asyncio.Queue()
    maintenance = cluster.database("postgres")
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(one.run()) for one in (here, there)]
        maintenance.run(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS false")
        maintenance.run(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
        )
        here.touched(user)
        await until(lambda: "a hint was lost" in caplog.text)
        maintenance.run(f"ALTER DATABASE {database.name} WITH ALLOW_CONNECTIONS true")
        with there.listening(heard.put_nowait):
            while await _told(here, heard, user) != frozenset((user,)):
                continue
        for task in running:
            task.cancel()


async def _told(
    here: Waker, heard: asyncio.Queue[frozenset[UUID] | None], user: UUID
) -> frozenset[UUID] | None:
    """What another process hears when this user was touched here; None for nothing in a second."""
    here.touched(user)
    try:
        async with asyncio.timeout(1):
            return await heard.get()
    except TimeoutError:
        return None


async def test_a_status_change_reaches_a_watch_that_was_woken(db: Database, user: UUID) -> None:
    epoch = await db.fetchval("SELECT private.take_leadership('streams', 'test')")
    await start(db, user)
    watch = watching(db)
    async with aclosing(watch.follow(user, 0, until=None)) as events:
        added, _ = await anext(events), await anext(events)
        assert isinstance(added, Change)
        observation = store.Observation(
            session_id=added.session.id,
            generation=1,
            status=Status.RUNNING,
            cause=None,
            cause_detail="",
            container_id="c1",
            started_at=None,
        )
        await store.record_observation(db, epoch, observation)
        watch.wake([user])
        change = await anext(events)
    assert isinstance(change, Change)
    assert change.session.status is Status.RUNNING
