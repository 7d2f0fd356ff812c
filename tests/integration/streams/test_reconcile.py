"""The reconciler against a real database and a simulated engine, with the faults of real life."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from encoder.job import Limits
from services.chassis.database import Database, DatabaseConfig
from services.chassis.vault import Vault
from services.streams import store
from services.streams.admission import key_context
from services.streams.model import Cause, Session, Status
from services.streams.reconcile.loop import DeliveryRecorder, Reconciler, Settings
from services.streams.reconcile.plan import Patience
from services.streams.runtime import EngineUnavailable
from services.streams.runtime.memory import Dies, Engine, MemoryRuntime, Refuses, Stalls, Unreadable
from services.streams.wake import Waker
from tests.support import database as support
from tests.support.clock import ManualClock

INGEST = "rtmp://a.rtmp.youtube.com/live2"


@dataclass
class World:
    """A deployment: what outlives the control plane, and the control plane of the moment."""

    db: Database
    database: support.Database
    clock: ManualClock
    engine: Engine
    vault: Vault = field(default_factory=lambda: Vault([b"k" * 32]))

    async def elect(self) -> None:
        """A new process leads; whatever the one before had in its hands is gone."""
        self.epoch = await self.db.fetchval("SELECT private.take_leadership('streams', 'test')")
        self.runtime = MemoryRuntime(self.engine)
        self.reconciler = Reconciler(
            database=self.db,
            runtime=self.runtime,
            vault=self.vault,
            waker=Waker(self.db),
            clock=self.clock,
            settings=Settings(media_root=Path("/media"), limits=Limits(), patience=Patience()),
            epoch=self.epoch,
        )

    async def crash(self) -> None:
        """SIGKILL of the leader, and a successor."""
        await self.reconciler.close()
        await self.runtime.close()
        await self.elect()

    async def passes(self, count: int = 3) -> None:
        for _ in range(count):
            await self.reconciler.run_once()
            await self.reconciler.idle()

    async def let(self, seconds: float) -> None:
        """Time passes, a second at a time, and the reconciler looks each time."""
        for _ in range(int(seconds)):
            await self.clock.advance(1)
            await self.passes(2)

    async def start(self, user: UUID, *, rtmp_url: str = INGEST, key: str | None = None) -> Session:
        session_id = uuid4()
        key = key or session_id.hex
        return await store.start_stream(
            self.db,
            user,
            store.NewSession(
                id=session_id,
                video_source="loop.mp4",
                rtmp_url=rtmp_url,
                target_hash=self.vault.fingerprint(key.encode(), purpose="target"),
                sealed_key=self.vault.seal(key.encode(), context=key_context(session_id)),
                request_id=None,
                fingerprint=b"",
            ),
        )

    async def now(self, session: Session) -> Session:
        found = await store.get_session(self.db, session.user_id, session.id)
        assert found is not None
        return found

    async def statuses(self, session: Session) -> list[tuple[Status, Cause | None]]:
        """Every status the session went through, as its watchers saw it."""
        changes = await store.changes_after(self.db, session.user_id, 0, limit=1000)
        seen = [(one.session.status, one.session.cause) for one in changes if one.session.id == session.id]
        return [step for at, step in enumerate(seen) if at == 0 or step != seen[at - 1]]

    async def slots(self, user: UUID) -> int:
        async with self.database.connect() as connection:
            assert await connection.fetch("SELECT * FROM private.slot_drift()") == []
            taken: int = await connection.fetchval(
                "SELECT streams_active FROM public.users WHERE id = $1", user
            )
            return taken

    async def user(self, **columns: object) -> UUID:
        async with self.database.connect() as connection:
            return await support.add_user(connection, **columns)  # type: ignore[arg-type]  # its own keywords


@pytest.fixture
async def world(database: support.Database) -> AsyncIterator[World]:
    config = DatabaseConfig(url=database.dsn("streamax_streams"))
    async with Database(config, application_name="test") as db:
        clock = ManualClock()
        made = World(db, database, clock, Engine(clock))
        await made.elect()
        yield made
        await made.reconciler.close()
        await made.runtime.close()


async def test_a_session_is_launched_runs_is_stopped_and_gives_its_slot_back(world: World) -> None:
    user = await world.user()
    session = await world.start(user)
    await world.let(5)
    assert (await world.now(session)).status is Status.RUNNING
    await store.request_stop(world.db, user, session.id, revision=None)
    assert await world.slots(user) == 1
    await world.let(2)
    assert (await world.now(session)).status is Status.STOPPED
    assert await world.slots(user) == 0
    assert await world.runtime.list() == []


@pytest.mark.parametrize("behaviour", [Refuses(), Unreadable()])
async def test_what_never_delivers_never_runs_and_ends_with_its_cause(
    world: World, behaviour: Refuses | Unreadable
) -> None:
    world.engine.behave(INGEST, behaviour)
    user = await world.user()
    session = await world.start(user)
    await world.let(240)
    seen = await world.statuses(session)
    assert Status.RUNNING not in {status for status, _ in seen}
    assert seen[-1][0] is Status.ERROR
    assert seen[-1][1] in (Cause.REMOTE_REFUSED, Cause.SOURCE)
    assert (await world.now(session)).started_at is None
    assert await world.slots(user) == 0
    assert await world.runtime.list() == []


async def test_a_stall_is_said_with_its_cause_and_healed(world: World) -> None:
    world.engine.behave(INGEST, Stalls())
    session = await world.start(await world.user())
    await world.let(120)
    assert (Status.STARTING, Cause.STALLED) in await world.statuses(session)


async def test_a_new_leader_adopts_what_runs_and_touches_nothing(world: World) -> None:
    session = await world.start(await world.user())
    await world.let(5)
    before = await world.now(session)
    await world.crash()
    await world.let(5)
    assert await world.now(session) == before
    (container,) = await world.runtime.list()
    assert container.id == before.container_id


async def test_a_lost_container_is_replaced_by_the_next_generation(world: World) -> None:
    session = await world.start(await world.user())
    await world.let(5)
    before = await world.now(session)
    world.engine.kill(before.container_id or "")
    await world.let(5)
    after = await world.now(session)
    assert after.status is Status.RUNNING
    assert after.generation == before.generation + 1
    assert after.container_id != before.container_id
    assert (Status.STARTING, Cause.HOST_LOST) in await world.statuses(session)


async def test_totals_outlive_the_container_that_earned_them(world: World) -> None:
    session = await world.start(await world.user())
    await world.let(10)
    recorder = DeliveryRecorder(database=world.db, runtime=world.runtime, epoch=world.epoch)
    await recorder.run_once()
    before = (await world.now(session)).delivery
    world.engine.kill((await world.now(session)).container_id or "")
    await world.let(10)
    await recorder.run_once()
    after = (await world.now(session)).delivery
    assert before is not None
    assert after is not None
    assert after.delivered_seconds > before.delivered_seconds
    assert after.attempts == before.attempts + 1


async def test_nothing_is_concluded_while_the_engine_is_away(world: World) -> None:
    session = await world.start(await world.user())
    await world.let(5)
    before = await world.now(session)
    world.engine.down()
    await world.clock.advance(300)
    with pytest.raises(EngineUnavailable):
        await world.reconciler.run_once()
    assert await world.now(session) == before
    world.engine.up()
    await world.let(3)
    assert await world.now(session) == before


async def test_a_launch_whose_answer_was_lost_is_not_launched_twice(world: World) -> None:
    session = await world.start(await world.user(), key="k")
    await world.reconciler.run_once()
    await world.reconciler.idle()
    await world.crash()
    world.engine.lose_answer()
    with pytest.raises(EngineUnavailable):
        await world.reconciler.run_once()
    await world.let(10)
    assert len(await world.runtime.list()) == 1
    assert world.engine.publishers(INGEST, "k") == 1
    assert (await world.now(session)).status is Status.RUNNING


async def test_an_engine_that_refuses_is_asked_again_and_the_user_is_told(world: World) -> None:
    world.engine.refusing = "no such image"
    session = await world.start(await world.user())
    await world.let(5)
    assert ((await world.now(session)).status, (await world.now(session)).cause) == (
        Status.STARTING,
        Cause.HOST_LOST,
    )
    assert "image" not in (await world.now(session)).cause_detail
    world.engine.refusing = None
    await world.let(120)
    assert (await world.now(session)).status is Status.RUNNING


async def test_a_dying_encoder_is_given_another_at_a_slowing_pace(world: World) -> None:
    world.engine.behave(INGEST, Dies(after=0.5))
    session = await world.start(await world.user())
    await world.let(60)
    assert 3 <= (await world.now(session)).generation <= 9


async def test_a_stop_during_the_launch_leaves_nothing(world: World) -> None:
    user = await world.user()
    session = await world.start(user)
    await world.reconciler.run_once()
    await store.request_stop(world.db, user, session.id, revision=None)
    await world.let(5)
    assert (await world.now(session)).status is Status.STOPPED
    assert await world.runtime.list() == []


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_one_key_has_one_publisher_and_all_is_as_wanted_in_the_end(
    world: World, seed: int
) -> None:
    chance = random.Random(seed)
    user = await world.user(streams_allowed=4)
    sessions = [await world.start(user, key=f"key-{number}") for number in range(3)]
    stopped: set[UUID] = set()
    for _ in range(40):
        match chance.randrange(8):
            case 0:
                await world.crash()
            case 1:
                containers = [one.id for one in await world.runtime.list()]
                if containers:
                    world.engine.kill(chance.choice(containers))
            case 2:
                world.engine.lose_answer()
            case 3:
                world.engine.down()
                await world.clock.advance(chance.randrange(1, 30))
                world.engine.up()
            case 4 if len(stopped) < 2:
                one = chance.choice(sessions)
                stopped.add(one.id)
                await store.request_stop(world.db, user, one.id, revision=None)
            case _:
                await world.clock.advance(chance.random() * 5)
        try:
            await world.passes(chance.randrange(1, 3))
        except EngineUnavailable:
            await world.reconciler.idle()
        for number in range(3):
            assert world.engine.publishers(INGEST, f"key-{number}") <= 1
    await world.let(150)
    for session in sessions:
        wanted = Status.STOPPED if session.id in stopped else Status.RUNNING
        assert (await world.now(session)).status is wanted
    assert await world.slots(user) == 3 - len(stopped)
    assert len(await world.runtime.list()) == 3 - len(stopped)
