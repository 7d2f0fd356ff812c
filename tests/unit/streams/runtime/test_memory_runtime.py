"""The simulation in a time of its own: what encoders report, moment by moment."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest

from encoder.job import Limits
from encoder.report import Cause, Report, State
from services.streams.runtime import Container, ContainerState, EngineUnavailable, Launch, LaunchRefused
from services.streams.runtime.memory import (
    Behaviour,
    Delivers,
    Dies,
    Engine,
    Loses,
    MemoryRuntime,
    Refuses,
    Stalls,
    Unreadable,
)
from tests.support.clock import ManualClock

DESTINATION = "rtmp://ingest/live"
LIMITS = Limits(stall=8.0, give_up=20.0, backoff_first=1.0, backoff_max=4.0, barren_attempts=4)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> Engine:
    return Engine(clock)


@pytest.fixture
def runtime(engine: Engine) -> MemoryRuntime:
    return MemoryRuntime(engine)


def an_order(**fields: object) -> Launch:
    order = {
        "session_id": uuid4(),
        "generation": 1,
        "media_folder": Path("/media"),
        "source": "loop.mp4",
        "destination": DESTINATION,
        "stream_key": "key",
        "limits": LIMITS,
    }
    return Launch(**(order | fields))  # type: ignore[arg-type]  # the fields of Launch


async def only(runtime: MemoryRuntime) -> Container:
    (container,) = await runtime.list()
    return container


async def report_of(runtime: MemoryRuntime) -> Report:
    report = (await only(runtime)).report
    assert report is not None
    return report


async def history(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock, behaviour: Behaviour, seconds: int
) -> list[tuple[float, State, Cause | None, int]]:
    """The seconds at which what is reported changed, counters apart; looked at in each quarter."""
    engine.behave(DESTINATION, behaviour)
    await runtime.launch(an_order())
    seen: list[tuple[float, State, Cause | None, int]] = []
    for quarter in range(seconds * 4):
        report = await report_of(runtime)
        if not seen or seen[-1][1:] != (report.state, report.cause, report.attempt):
            seen.append((quarter / 4, report.state, report.cause, report.attempt))
        await clock.advance(0.25)
    return seen


async def test_delivery_counts_what_is_acknowledged(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    engine.behave(DESTINATION, Delivers(connect=2.0, kbps=800.0))
    await runtime.launch(an_order())
    began = clock.now().timestamp()

    await clock.advance(12.0)

    report = await report_of(runtime)
    assert report == Report(
        at=began + 12.0,
        attempt=1,
        state=State.DELIVERING,
        first_media_at=began + 2.0,
        last_media_at=began + 12.0,
        delivered_seconds=10.0,
        acknowledged_bytes=1_000_000,
        bitrate_kbps=800.0,
        fps=30.0,
    )


async def test_refusal_is_tried_again_with_growing_pauses_and_then_given_up(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    refusal = Cause.KEY_REJECTED

    seen = await history(runtime, engine, clock, Refuses(cause=refusal, connect=0.5), 12)

    assert [(at, state, attempt) for at, state, _, attempt in seen] == [
        (0.0, State.CONNECTING, 1),
        (0.5, State.BACKOFF, 1),
        (1.5, State.CONNECTING, 2),
        (2.0, State.BACKOFF, 2),
        (4.0, State.CONNECTING, 3),
        (4.5, State.BACKOFF, 3),
        (8.5, State.CONNECTING, 4),
        (9.0, State.ENDED, 4),
    ]
    assert {cause for _, _, cause, _ in seen[1:]} == {refusal}
    found = await only(runtime)
    assert (found.state, found.exit_code) == (ContainerState.EXITED, 3)
    assert [line.attempt for line in await runtime.logs(found.id, limit=2)] == [4, 4]


async def test_stall_is_named_after_its_patience_and_then_tried_again(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    seen = await history(runtime, engine, clock, Stalls(connect=1.0, after=5.0), 29)

    assert seen == [
        (0.0, State.CONNECTING, None, 1),
        (1.0, State.DELIVERING, None, 1),
        (14.0, State.STALLED, Cause.STALLED, 1),
        (26.0, State.BACKOFF, Cause.STALLED, 1),
        (27.0, State.CONNECTING, Cause.STALLED, 2),
        (28.0, State.DELIVERING, None, 2),
    ]


async def test_nothing_is_acknowledged_in_a_stall(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    engine.behave(DESTINATION, Stalls(connect=1.0, after=5.0, kbps=800.0))
    await runtime.launch(an_order())
    began = clock.now().timestamp()

    await clock.advance(15.0)

    report = await report_of(runtime)
    assert (report.delivered_seconds, report.acknowledged_bytes) == (5.0, 500_000)
    assert report.last_media_at == began + 6.0


async def test_lost_connection_counts_attempts_and_keeps_the_totals(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    seen = await history(runtime, engine, clock, Loses(connect=1.0, after=3.0), 9)

    assert seen == [
        (0.0, State.CONNECTING, None, 1),
        (1.0, State.DELIVERING, None, 1),
        (4.0, State.BACKOFF, Cause.NETWORK, 1),
        (5.0, State.CONNECTING, Cause.NETWORK, 2),
        (6.0, State.DELIVERING, None, 2),
    ]
    assert (await report_of(runtime)).delivered_seconds == pytest.approx(6.0)


async def test_death_leaves_the_last_report_as_it_was(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    engine.behave(DESTINATION, Dies(connect=1.0, after=4.0, exit_code=139))
    await runtime.launch(an_order())
    began = clock.now().timestamp()

    await clock.advance(60.0)

    found = await only(runtime)
    assert (found.state, found.exit_code) == (ContainerState.EXITED, 139)
    assert found.report is not None
    assert (found.report.state, found.report.at) == (State.DELIVERING, began + 5.0)
    assert found.report.delivered_seconds == 4.0


async def test_source_that_cannot_be_read_is_not_tried_again(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    engine.behave(DESTINATION, Unreadable(after=0.2))
    await runtime.launch(an_order())

    await clock.advance(0.3)

    found = await only(runtime)
    assert found.report is not None
    assert (found.state, found.report.state, found.report.cause) == (
        ContainerState.EXITED,
        State.ENDED,
        Cause.SOURCE,
    )


async def test_changes_are_hinted_when_their_time_comes_though_nobody_asks(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    hints = runtime.hints()
    late, soon = an_order(), an_order(destination="rtmp://sooner/live")
    engine.behave(DESTINATION, Delivers(connect=10.0))
    engine.behave("rtmp://sooner/live", Delivers(connect=5.0))
    await runtime.launch(late)
    await asyncio.sleep(0)
    await runtime.launch(soon)
    assert {await anext(hints), await anext(hints)} == {late.session_id, soon.session_id}

    await clock.advance(5.0)
    assert await anext(hints) == soon.session_id
    await clock.advance(5.0)
    assert await anext(hints) == late.session_id
    await runtime.close()


async def test_answer_that_was_lost_left_its_effect(runtime: MemoryRuntime, engine: Engine) -> None:
    engine.lose_answer()
    with pytest.raises(EngineUnavailable):
        await runtime.launch(an_order())

    found = await only(runtime)

    engine.lose_answer()
    with pytest.raises(EngineUnavailable):
        await runtime.stop(found.id)
    assert (await only(runtime)).state is ContainerState.EXITED


async def test_stop_takes_its_time_and_the_encoder_publishes_until_then(clock: ManualClock) -> None:
    engine = Engine(clock, stop_takes=3.0)
    runtime = MemoryRuntime(engine)
    launched = await runtime.launch(an_order())
    await clock.advance(10.0)

    stop = asyncio.create_task(runtime.stop(launched.id))
    await asyncio.sleep(0)
    await clock.advance(2.0)
    assert engine.publishers(DESTINATION, "key") == 1
    assert not stop.done()
    await clock.advance(1.0)
    await stop

    assert engine.publishers(DESTINATION, "key") == 0
    assert (await only(runtime)).exit_code == 0


async def test_encoder_in_backoff_is_no_publisher(
    runtime: MemoryRuntime, engine: Engine, clock: ManualClock
) -> None:
    engine.behave(DESTINATION, Refuses(connect=0.5))
    await runtime.launch(an_order())

    assert engine.publishers(DESTINATION, "key") == 1
    await clock.advance(0.6)
    assert engine.publishers(DESTINATION, "key") == 0


async def test_launches_can_be_made_to_be_refused(runtime: MemoryRuntime, engine: Engine) -> None:
    engine.refusing = "no room"

    with pytest.raises(LaunchRefused, match="no room"):
        await runtime.launch(an_order())

    assert await runtime.list() == []


async def test_thousand_encoders_need_no_task_and_no_time(runtime: MemoryRuntime, clock: ManualClock) -> None:
    for _ in range(1000):
        await runtime.launch(an_order())
    await clock.advance(86_400.0)

    found = await runtime.list()

    assert len(asyncio.all_tasks()) == 1
    assert {one.report.state for one in found if one.report} == {State.DELIVERING}
