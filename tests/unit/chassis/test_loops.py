"""A loop ticks, wakes, backs off and outlives its errors; its clock is turned by hand."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise

import pytest

from services.chassis.loops import Loop
from tests.support.clock import ManualClock


class Work:
    """Counts its runs and fails when told to."""

    def __init__(self) -> None:
        self.runs = 0
        self.failing = False
        self.counts: Mapping[str, int] = {}
        self._ran = asyncio.Condition()

    async def run_once(self) -> Mapping[str, int]:
        async with self._ran:
            self.runs += 1
            self._ran.notify_all()
        if self.failing:
            raise OSError("the engine is down")
        return self.counts

    async def until(self, runs: int) -> None:
        async with asyncio.timeout(5), self._ran:
            await self._ran.wait_for(lambda: self.runs >= runs)


@asynccontextmanager
async def running(work: Work, clock: ManualClock, jitter: float = 0.0) -> AsyncIterator[Loop]:
    loop = Loop("test", work.run_once, interval=timedelta(seconds=10), jitter=jitter, clock=clock)
    task = asyncio.create_task(loop.run())
    try:
        await work.until(1)
        await settle()
        yield loop
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_it_runs_at_once_and_then_every_interval() -> None:
    work, clock = Work(), ManualClock()
    async with running(work, clock):
        await clock.advance(9)
        await settle()
        assert work.runs == 1
        await clock.advance(1)
        await work.until(2)
        await settle()
        await clock.advance(10)
        await work.until(3)


async def test_a_wake_up_runs_it_now() -> None:
    work, clock = Work(), ManualClock()
    async with running(work, clock) as loop:
        loop.wake()
        await work.until(2)


async def test_many_wake_ups_while_it_pauses_are_one() -> None:
    work, clock = Work(), ManualClock()
    async with running(work, clock) as loop:
        for _ in range(100):
            loop.wake()
        await work.until(2)
        await settle()
        assert work.runs == 2


async def test_a_wake_up_during_a_run_is_not_lost() -> None:
    began, go_on, runs = asyncio.Event(), asyncio.Event(), []

    async def run_once() -> Mapping[str, int]:
        runs.append(1)
        began.set()
        await go_on.wait()
        return {}

    loop = Loop("test", run_once, interval=timedelta(hours=1), clock=ManualClock())
    task = asyncio.create_task(loop.run())
    await began.wait()
    loop.wake()
    go_on.set()
    await settle()
    task.cancel()
    assert len(runs) == 2


async def test_it_outlives_its_errors_and_says_so_with_the_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work, clock = Work(), ManualClock()
    work.failing = True
    async with running(work, clock):
        await clock.advance(60)
        await work.until(2)
        work.failing = False
        await settle()
        await clock.advance(60)
        await work.until(3)
    record = next(each for each in caplog.records if each.message == "loop failed")
    assert record.exc_info is not None
    assert "the engine is down" in str(record.exc_info[1])


async def test_errors_make_it_wait_longer_but_never_more_than_a_minute() -> None:
    work, clock = Work(), ManualClock()
    work.failing = True
    async with running(work, clock):
        for run in range(2, 12):
            before = clock.monotonic()
            while work.runs < run:
                await clock.advance(1)
                await settle()
            assert clock.monotonic() - before <= 61
        assert clock.monotonic() > 10 * 30


async def test_a_good_run_forgives_the_bad_ones_before_it(caplog: pytest.LogCaptureFixture) -> None:
    work, clock = Work(), ManualClock()
    async with running(work, clock) as loop:
        for failing in (True, True, False, True):
            work.failing, before = failing, work.runs
            loop.wake()
            while work.runs == before:
                await clock.advance(1)
                await settle()
    assert [vars(each)["failures"] for each in caplog.records] == [1, 2, 1]


async def test_wake_ups_do_not_defeat_the_backoff() -> None:
    work, clock = Work(), ManualClock()
    work.failing = True
    async with running(work, clock) as loop:
        for _ in range(10):
            loop.wake()
            await settle()
        assert work.runs == 1


async def test_jitter_spreads_the_pauses() -> None:
    work, clock = Work(), ManualClock()
    moments = []
    async with running(work, clock, jitter=0.5):
        for run in range(2, 22):
            while work.runs < run:
                await clock.advance(0.25)
                await settle()
            moments.append(clock.monotonic())
    pauses = [after - before for before, after in pairwise(moments)]
    assert all(5 <= pause <= 15.25 for pause in pauses)
    assert max(pauses) - min(pauses) > 1


async def test_it_logs_only_runs_that_did_something(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    work, clock = Work(), ManualClock()
    work.counts = {"started": 0}
    async with running(work, clock) as loop:
        assert not caplog.records
        work.counts = {"started": 2, "stopped": 0}
        loop.wake()
        await work.until(2)
        await settle()
    assert [vars(each)["counts"] for each in caplog.records] == [{"started": 2}]


async def test_cancelling_ends_it_in_the_middle_of_a_run() -> None:
    began = asyncio.Event()

    async def run_once() -> Mapping[str, int]:
        began.set()
        await asyncio.Event().wait()
        return {}

    task = asyncio.create_task(Loop("test", run_once, interval=timedelta(seconds=1)).run())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
