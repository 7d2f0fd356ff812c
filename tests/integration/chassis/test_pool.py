"""The pool under the moments that are hard to hit: everything given back is lent again."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from services.chassis.pool import Lent, PlainConnection, Pool
from tests.support import database as support


@pytest.fixture
async def pool(database: support.Database) -> AsyncIterator[Pool]:
    async def connect() -> PlainConnection:
        return await asyncpg.connect(database.dsn("streamax_streams"))

    opened = Pool(connect, size=2, longest_life=60)
    yield opened
    await opened.close(patience=1)


async def borrow(pool: Pool) -> Lent:
    return pool.take() or await pool.wait(patience=5)


async def both(pool: Pool) -> list[Lent]:
    """All of its connections: whoever holds them knows that none was lost."""
    async with asyncio.timeout(5):
        return [await borrow(pool), await borrow(pool)]


async def test_a_borrower_cancelled_as_it_is_served_passes_the_connection_on(pool: Pool) -> None:
    first, second = await both(pool)
    waiting = asyncio.create_task(pool.wait(patience=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pool.give_back(first)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    pool.give_back(second)
    assert len(await both(pool)) == 2


async def test_a_borrower_cancelled_before_it_is_served_leaves_the_queue(pool: Pool) -> None:
    first, second = await both(pool)
    gone, patient = (asyncio.create_task(pool.wait(patience=5)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert len(pool._waiting) == 1
    pool.give_back(first)
    assert await patient is first
    pool.give_back(first)
    pool.give_back(second)
    assert len(await both(pool)) == 2


async def test_a_closed_connection_makes_room_for_whoever_waits(pool: Pool) -> None:
    first, second = await both(pool)
    waiting = asyncio.create_task(pool.wait(patience=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.connection.terminate()
    pool.give_back(first)
    replaced = await waiting
    assert replaced is not first
    pool.give_back(replaced)
    pool.give_back(second)
    assert len(await both(pool)) == 2


async def test_a_connection_that_cannot_prove_itself_is_replaced(pool: Pool) -> None:
    first, second = await both(pool)
    # Still busy when it is given back: the proof finds an operation in progress.
    busy = asyncio.create_task(first.connection.fetchval("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.05)
    pool.give_back(first, doubtful=True)
    replaced = await pool.wait(patience=5)
    assert replaced is not first
    pool.give_back(replaced)
    pool.give_back(second)
    assert len(await both(pool)) == 2
    await asyncio.gather(busy, return_exceptions=True)


async def test_a_failed_connect_makes_room_again(database: support.Database) -> None:
    refusals = [OSError("refused")] * 3

    async def connect() -> PlainConnection:
        if refusals:
            raise refusals.pop()
        return await asyncpg.connect(database.dsn("streamax_streams"))

    pool = Pool(connect, size=1, longest_life=60)
    for _ in range(3):
        with pytest.raises(OSError, match="refused"):
            await borrow(pool)
    lent = await borrow(pool)
    pool.give_back(lent)
    await pool.close(patience=1)


async def test_whoever_waits_for_a_connection_that_fails_tries_itself(database: support.Database) -> None:
    connecting, outcome = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def connect() -> PlainConnection:
        if not connecting.is_set():
            connecting.set()
            await outcome
        return await asyncpg.connect(database.dsn("streamax_streams"))

    pool = Pool(connect, size=1, longest_life=60)
    first = asyncio.create_task(pool.wait(patience=5))
    await connecting.wait()
    second = asyncio.create_task(pool.wait(patience=5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    outcome.set_exception(OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await first
    pool.give_back(await second)
    await pool.close(patience=1)


async def test_a_storm_of_impatient_borrowers_loses_nothing(pool: Pool) -> None:
    chance = random.Random(7)

    async def use() -> None:
        lent = await borrow(pool)
        clean = False
        try:
            await lent.connection.fetchval("SELECT pg_sleep($1)", chance.random() / 200)
            clean = True
        finally:
            pool.give_back(lent, doubtful=not clean)

    async def impatient() -> None:
        task = asyncio.create_task(use())
        await asyncio.sleep(chance.random() / 20)
        if chance.random() < 0.5:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async with asyncio.timeout(60):
        await asyncio.gather(*(impatient() for _ in range(300)))
    assert len(await both(pool)) == 2
