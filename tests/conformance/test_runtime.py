"""The contract of `Runtime`, executed on every engine there is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from encoder.report import Cause, State
from services.streams.runtime import Container, ContainerState, EngineUnavailable, LaunchRefused, Runtime
from tests.conformance.rigs import CANARY, LIMITS, Fate, Rig

# The Docker SDK leaves the socket of a connection that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

#: The first container on an engine just started took 1.2 s, two busy cores many times that.
PATIENCE = 45.0


async def observed(runtime: Runtime, container: Container, holds: Callable[[Container], bool]) -> Container:
    """The container once that holds; looks at every hint, and now and then without."""
    hints = runtime.hints()
    async with asyncio.timeout(PATIENCE):
        while True:
            found = await listed(runtime, container)
            if found is not None and holds(found):
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(anext(hints), 0.2)


async def listed(runtime: Runtime, container: Container) -> Container | None:
    return next((one for one in await runtime.list() if one.id == container.id), None)


def delivers(container: Container) -> bool:
    return container.report is not None and container.report.state is State.DELIVERING


def stalled(container: Container) -> bool:
    return container.report is not None and container.report.state is State.STALLED


def exited(container: Container) -> bool:
    return container.state is ContainerState.EXITED


def acknowledged(container: Container) -> int:
    assert container.report is not None
    return container.report.acknowledged_bytes


@asynccontextmanager
async def another(rig: Rig, *, owner: str | None = None) -> AsyncIterator[Runtime]:
    """A second control plane on the same engine."""
    runtime = rig.open(owner=owner)
    try:
        yield runtime
    finally:
        await runtime.close()


async def test_launched_encoder_is_listed_and_its_report_tells_of_delivery(
    rig: Rig, runtime: Runtime
) -> None:
    order = await rig.order(Fate.DELIVERS, generation=7)

    launched = await runtime.launch(order)

    found = await observed(runtime, launched, delivers)
    assert (found.session_id, found.generation, found.state, found.exit_code) == (
        order.session_id,
        7,
        ContainerState.RUNNING,
        None,
    )
    assert found.started_at is not None
    assert abs(datetime.now(UTC) - found.started_at) < timedelta(minutes=1)
    assert acknowledged(found) > 0
    assert rig.publishers(order) == 1


async def test_launch_does_not_wait_for_media(rig: Rig, runtime: Runtime) -> None:
    launched = await runtime.launch(await rig.order(Fate.DELIVERS))

    assert launched.state is ContainerState.RUNNING
    assert launched.report is None or launched.report.first_media_at is None


async def test_second_launch_of_a_running_encoder_starts_nothing(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    first = await runtime.launch(order)
    await observed(runtime, first, delivers)

    second = await runtime.launch(replace(order, stream_key="another"))

    assert second.id == first.id
    assert [one.id for one in await runtime.list()] == [first.id]
    assert delivers(second)


async def test_second_launch_of_an_exited_encoder_starts_nothing(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    first = await runtime.launch(order)
    await runtime.stop(first.id)

    second = await runtime.launch(order)

    assert (second.id, second.state) == (first.id, ContainerState.EXITED)
    assert rig.publishers(order) == 0


async def test_control_planes_racing_on_one_launch_start_one_encoder(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)

    async with another(rig) as rival:
        racers = [one.launch(order) for one in (runtime, rival, runtime, rival)]
        launched = await asyncio.gather(*racers)

    assert len({one.id for one in launched}) == 1
    assert [one.id for one in await runtime.list()] == [launched[0].id]
    assert delivers(await observed(runtime, launched[0], delivers))


async def test_generations_of_one_session_are_told_apart(rig: Rig, runtime: Runtime) -> None:
    session_id = uuid4()
    orders = [await rig.order(Fate.DELIVERS, session_id=session_id, generation=one) for one in (1, 2)]

    launched = [await runtime.launch(order) for order in orders]

    found = {(one.session_id, one.generation): one.id for one in await runtime.list()}
    assert found == {(session_id, 1): launched[0].id, (session_id, 2): launched[1].id}


async def test_another_deployment_neither_sees_nor_touches_ours(rig: Rig, runtime: Runtime) -> None:
    ours = await runtime.launch(await rig.order(Fate.DELIVERS))
    await observed(runtime, ours, delivers)

    async with another(rig, owner="another") as stranger:
        assert await stranger.list() == []
        assert await stranger.logs(ours.id, limit=10) == []
        await stranger.stop(ours.id)
        await stranger.remove(ours.id)

    found = await listed(runtime, ours)
    assert found is not None
    assert found.state is ContainerState.RUNNING


async def test_next_control_plane_finds_encoders_running_with_their_reports(rig: Rig) -> None:
    order = await rig.order(Fate.DELIVERS)
    async with another(rig) as first:
        launched = await first.launch(order)
        before = await observed(first, launched, delivers)

    async with another(rig) as second:
        # At once: not on the second look, not after a hint.
        (adopted,) = await second.list()
        assert (adopted.id, adopted.state, adopted.started_at) == (
            before.id,
            ContainerState.RUNNING,
            before.started_at,
        )
        assert acknowledged(adopted) >= acknowledged(before)
        await observed(second, adopted, lambda one: acknowledged(one) > acknowledged(adopted))
        assert rig.publishers(order) == 1
        await second.stop(adopted.id)
        ended = await observed(second, adopted, exited)
        assert ended.exit_code == 0
        await second.remove(adopted.id)


async def test_next_control_plane_finds_what_ended_meanwhile(rig: Rig) -> None:
    order = await rig.order(Fate.REFUSED)
    async with another(rig) as first:
        launched = await first.launch(order)
        await observed(first, launched, exited)

    async with another(rig) as second:
        (found,) = await second.list()
        assert found.state is ContainerState.EXITED
        assert found.report is not None
        assert (found.report.state, found.report.cause is None) == (State.ENDED, False)
        await second.remove(found.id)


async def test_stop_returns_when_the_encoder_has_exited_by_itself(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    launched = await runtime.launch(order)
    await observed(runtime, launched, delivers)

    await runtime.stop(launched.id)

    found = await listed(runtime, launched)
    assert found is not None
    assert (found.state, found.exit_code) == (ContainerState.EXITED, 0)
    assert found.report is not None
    assert (found.report.state, found.report.cause) == (State.ENDED, None)
    assert rig.publishers(order) == 0


async def test_stop_is_certain_for_a_stalled_encoder(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.STALLS)
    launched = await runtime.launch(order)
    await observed(runtime, launched, stalled)
    assert rig.runs(order)

    async with asyncio.timeout(LIMITS.stop_first + LIMITS.stop_second + 4.0):
        await runtime.stop(launched.id)

    found = await listed(runtime, launched)
    assert found is not None
    assert found.state is ContainerState.EXITED
    # Not asked of the server: a container's network goes with it, and the end
    # of a connection on which the server reads nothing is then never sent.
    assert not rig.runs(order)


async def test_stop_is_idempotent_also_at_once_and_for_the_unknown(rig: Rig, runtime: Runtime) -> None:
    launched = await runtime.launch(await rig.order(Fate.DELIVERS))

    await asyncio.gather(*(runtime.stop(launched.id) for _ in range(3)))
    await runtime.stop(launched.id)
    await runtime.stop("nobody-has-this-id")

    found = await listed(runtime, launched)
    assert found is not None
    assert found.state is ContainerState.EXITED


async def test_remove_forgets_an_exited_encoder(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    launched = await runtime.launch(order)
    await runtime.stop(launched.id)

    await asyncio.gather(runtime.remove(launched.id), runtime.remove(launched.id))
    await runtime.remove(launched.id)

    assert await runtime.list() == []
    assert await runtime.logs(launched.id, limit=10) == []
    again = await runtime.launch(order)
    assert delivers(await observed(runtime, again, delivers))


async def test_remove_leaves_a_running_encoder_alone(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    launched = await runtime.launch(order)
    await observed(runtime, launched, delivers)

    await runtime.remove(launched.id)
    await runtime.remove("nobody-has-this-id")

    found = await listed(runtime, launched)
    assert found is not None
    assert found.state is ContainerState.RUNNING
    assert rig.publishers(order) == 1


@pytest.mark.parametrize(
    ("fate", "causes"),
    [
        (Fate.REFUSED, {Cause.REMOTE_REFUSED, Cause.KEY_REJECTED}),
        (Fate.UNREADABLE, {Cause.SOURCE}),
    ],
)
async def test_encoder_that_gave_up_stays_with_the_cause(
    rig: Rig, runtime: Runtime, fate: Fate, causes: set[Cause]
) -> None:
    launched = await runtime.launch(await rig.order(fate))

    found = await observed(runtime, launched, exited)

    assert found.report is not None
    assert (found.report.state, found.report.first_media_at) == (State.ENDED, None)
    assert found.report.cause in causes
    assert found.report.detail
    assert found.exit_code not in (None, 0)


async def test_encoder_killed_from_outside_leaves_no_publisher(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    launched = await runtime.launch(order)
    await observed(runtime, launched, delivers)

    await rig.kill(launched)

    found = await observed(runtime, launched, exited)
    assert found.exit_code == 137
    assert found.report is not None
    assert found.report.state is State.DELIVERING
    async with asyncio.timeout(PATIENCE):
        await rig.unpublished(order)


async def test_logs_are_the_last_lines_without_the_key(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.REFUSED)
    launched = await runtime.launch(order)
    await observed(runtime, launched, exited)

    lines = await runtime.logs(launched.id, limit=100)

    assert lines
    assert [one.at for one in lines] == sorted(one.at for one in lines)
    assert not [one for one in lines if CANARY in one.text]
    assert await runtime.logs(launched.id, limit=1) == lines[-1:]
    assert await runtime.logs("nobody-has-this-id", limit=10) == []


async def test_hints_tell_of_launch_delivery_and_end(rig: Rig, runtime: Runtime) -> None:
    async with another(rig) as watcher:
        hints = watcher.hints()
        order = await rig.order(Fate.DELIVERS)
        launched = await runtime.launch(order)

        states = []
        async with asyncio.timeout(PATIENCE):
            async for session_id in hints:
                assert session_id == order.session_id
                found = await listed(watcher, launched)
                states.append((found.state, found.report and found.report.state) if found else None)
                if (ContainerState.RUNNING, State.DELIVERING) in states:
                    break
            await runtime.stop(launched.id)
            async for _ in hints:
                found = await listed(watcher, launched)
                if found is not None and found.state is ContainerState.EXITED:
                    break
            await runtime.remove(launched.id)


async def test_counters_alone_give_no_hint(rig: Rig, runtime: Runtime) -> None:
    launched = await runtime.launch(await rig.order(Fate.DELIVERS))
    before = await observed(runtime, launched, delivers)
    hints = runtime.hints()
    await observed(runtime, launched, lambda one: acknowledged(one) > acknowledged(before))
    with suppress(TimeoutError):  # what was on its way when the delivery began
        await asyncio.wait_for(anext(hints), 1.0)

    with pytest.raises(TimeoutError):
        # Three reports' time.
        await asyncio.wait_for(anext(hints), 3.0)


async def test_without_the_engine_nothing_is_concluded_and_nothing_interrupted(
    rig: Rig, runtime: Runtime
) -> None:
    order = await rig.order(Fate.DELIVERS)
    launched = await runtime.launch(order)
    before = await observed(runtime, launched, delivers)
    hints = runtime.hints()

    await rig.cut()
    another_order = await rig.order(Fate.DELIVERS)
    for attempt in (
        runtime.list(),
        runtime.launch(another_order),
        runtime.stop(launched.id),
        runtime.remove(launched.id),
        runtime.logs(launched.id, limit=10),
    ):
        with pytest.raises(EngineUnavailable):
            await attempt
    assert rig.publishers(order) == 1

    await rig.heal()
    await observed(runtime, launched, lambda one: acknowledged(one) > acknowledged(before))
    await runtime.launch(another_order)
    async with asyncio.timeout(PATIENCE):
        async for session_id in hints:
            if session_id == another_order.session_id:
                break


async def test_reports_are_fresh_in_the_first_list_after_the_engine_was_away(
    rig: Rig, runtime: Runtime
) -> None:
    launched = await runtime.launch(await rig.order(Fate.DELIVERS))
    await observed(runtime, launched, delivers)

    await rig.cut()
    await asyncio.sleep(6.0)  # the time itself is what is tested: so long, and the encoder counts as silent
    await rig.heal()

    (found,) = await runtime.list()
    assert found.report is not None
    assert datetime.now(UTC).timestamp() - found.report.at < 3.0


@pytest.mark.parametrize("source", ["../loop.mp4", "/etc/passwd", "a/../../loop.mp4", ""])
async def test_launch_is_refused_for_a_source_outside_the_media_folder(
    rig: Rig, runtime: Runtime, source: str
) -> None:
    order = replace(await rig.order(Fate.DELIVERS), source=source)

    with pytest.raises(LaunchRefused):
        await runtime.launch(order)

    assert await runtime.list() == []


async def test_key_is_in_nothing_an_operator_can_look_at(rig: Rig, runtime: Runtime) -> None:
    order = await rig.order(Fate.DELIVERS)
    launched = await runtime.launch(order)
    await observed(runtime, launched, delivers)
    traces = await asyncio.to_thread(rig.traces, launched)

    await runtime.stop(launched.id)

    assert [what for what, text in traces.items() if CANARY.encode() in text] == []
    assert CANARY not in repr(await runtime.list()) + repr(order)


async def test_closed_runtime_ends_its_hints(rig: Rig) -> None:
    runtime = rig.open()
    hints = runtime.hints()

    await runtime.close()

    assert [one async for one in hints] == []
