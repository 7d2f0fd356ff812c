"""Exactly one leads; another takes over; nobody leads without its connection."""

import asyncio
import os
import signal
from functools import partial

import pytest

from services.chassis import leader
from services.chassis.database import Database, DatabaseConfig
from services.chassis.leader import lead
from tests.support import database as support
from tests.support.program import Program, running


async def depose(database: support.Database) -> None:
    """Ends the connections of whoever leads or wants to."""
    async with database.connect() as admin:
        await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE '% leader'"
        )


async def first_of(*programs: Program) -> Program:
    waiting = {
        asyncio.create_task(each.until_said(lambda line: "leading" in line)): each for each in programs
    }
    done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for each in others:
        each.cancel()
    return waiting[done.pop()]


async def test_one_of_two_processes_leads_and_the_other_takes_over_from_a_killed_one(
    database: support.Database,
) -> None:
    url = database.dsn("streamax_streams")
    async with running("lead", url) as one, running("lead", url) as two:
        leading = await first_of(one, two)
        follower = two if leading is one else one
        # Several election rounds (about one a second) in which the follower must not win.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await follower.until_said(lambda line: "leading" in line)
        os.kill(leading.pid, signal.SIGKILL)
        before = asyncio.get_running_loop().time()
        successor = await follower.until_said(lambda line: "leading" in line)
        assert asyncio.get_running_loop().time() - before < 10
    assert successor["leading"] == leading.said[0]["leading"] + 1


async def test_a_leader_that_loses_its_connection_stops_working_and_stands_again(
    database: support.Database, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It must not take a probe to notice that the server has hung up.
    monkeypatch.setattr(leader, "_PROBE_EVERY", 3600.0)
    epochs: asyncio.Queue[int] = asyncio.Queue()
    working: list[int] = []

    async def work(epoch: int) -> None:
        working.append(epoch)
        epochs.put_nowait(epoch)
        try:
            await asyncio.Event().wait()
        finally:
            working.remove(epoch)

    task = asyncio.create_task(lead(db, "test", work))
    async with asyncio.timeout(20):
        first = await epochs.get()
        await depose(database)
        second = await epochs.get()
    assert second == first + 1
    assert working == [second]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not working


async def test_a_leader_whose_database_does_not_answer_stops_working(
    database: support.Database, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader, "_PROBE_EVERY", 0.2)
    monkeypatch.setattr(leader, "_PROBE_TIMEOUT", 0.5)
    led, stopped = asyncio.Event(), asyncio.Event()

    async def work(epoch: int) -> None:
        led.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    task = asyncio.create_task(lead(db, "test", work))
    async with asyncio.timeout(20):
        await led.wait()
    async with database.connect() as admin:
        backend = await admin.fetchval(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'chassis test leader'"
        )
    try:
        os.kill(backend, signal.SIGSTOP)
    except (PermissionError, ProcessLookupError):
        pytest.skip("the database server runs elsewhere; its process cannot be stopped")
    try:
        async with asyncio.timeout(10):
            await stopped.wait()
    finally:
        os.kill(backend, signal.SIGCONT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_two_elections_have_a_leader_each(db: Database) -> None:
    led: asyncio.Queue[str] = asyncio.Queue()

    async def work(name: str, epoch: int) -> None:
        led.put_nowait(name)
        await asyncio.Event().wait()

    tasks = [asyncio.create_task(lead(db, name, partial(work, name))) for name in ("a", "b")]
    async with asyncio.timeout(10):
        assert {await led.get(), await led.get()} == {"a", "b"}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_error_of_the_work_is_the_end_of_the_leader(db: Database) -> None:
    async def work(epoch: int) -> None:
        raise KeyError(epoch)

    with pytest.raises(KeyError):
        async with asyncio.timeout(10):
            await lead(db, "test", work)


async def test_who_is_told_to_stop_gives_the_lead_away_at_once(
    database: support.Database, db: Database
) -> None:
    led = asyncio.Event()

    async def work(epoch: int) -> None:
        led.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(lead(db, "test", work))
    async with asyncio.timeout(10):
        await led.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    led.clear()
    successor = asyncio.create_task(lead(db, "test", work))
    async with asyncio.timeout(5):
        await led.wait()
    successor.cancel()
    await asyncio.gather(successor, return_exceptions=True)


async def test_an_election_waits_for_a_database_that_is_away(
    database: support.Database, db: Database
) -> None:
    # The election's own connections are refused, then allowed again.
    database.run("ALTER ROLE streamax_streams CONNECTION LIMIT 0")
    led = asyncio.Event()

    async def work(epoch: int) -> None:
        led.set()
        await asyncio.Event().wait()

    try:
        task = asyncio.create_task(lead(db, "test", work))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await led.wait()
    finally:
        database.run("ALTER ROLE streamax_streams CONNECTION LIMIT -1")
    async with asyncio.timeout(10):
        await led.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_record_says_who_leads(database: support.Database) -> None:
    config = DatabaseConfig(url=database.dsn("streamax_users"), pool_min=1)
    led = asyncio.Event()

    async def work(epoch: int) -> None:
        led.set()
        await asyncio.Event().wait()

    async with Database(config, application_name="test") as db:
        task = asyncio.create_task(lead(db, "keys", work))
        async with asyncio.timeout(10):
            await led.wait()
        async with database.connect() as admin:
            holder = await admin.fetchval("SELECT holder FROM private.leaderships WHERE name = 'keys'")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert holder.endswith(f":{os.getpid()}")
