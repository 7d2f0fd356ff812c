"""Exactly one process at a time does a piece of work; PostgreSQL decides which.

A session advisory lock on a connection of its own elects; an epoch, one higher
with each term, fences: whatever a leader writes or launches carries it, so a
leader that was only asleep cannot undo what its successor did.
"""

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from services.chassis.database import Database, PlainConnection, connect

__all__ = ["lead"]

_log = logging.getLogger(__name__)

# Asked again and again rather than waited for: a statement that waits for an
# advisory lock holds a snapshot, and no table is vacuumed meanwhile.
_TRY_EVERY = 1.0
_PROBE_EVERY = 2.0
_PROBE_TIMEOUT = 3.0

_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


async def lead(db: Database, name: str, work: Callable[[int], Awaitable[None]]) -> None:
    """Runs `work(epoch)` whenever this process is the leader for `name`; for ever, until cancelled.

    The work is cancelled when the connection that holds the lock is lost. An
    error of the work itself ends this too: the process is not fit to lead.
    """
    while True:
        try:
            connection = await connect(db.config, application_name=f"{db.application_name} leader")
        except _LOST as error:
            _log.warning("leader election has no database", extra={"election": name, "detail": str(error)})
            await _pause()
            continue
        try:
            await _campaign(connection, name, work)
        except _Deposed as error:
            _log.warning("leadership lost", extra={"election": name, "detail": str(error)})
        finally:
            # Not close(): that waits for a server that may be gone. The lock goes with the connection.
            connection.terminate()
        await _pause()


class _Deposed(Exception):
    """The connection that held, or sought, the lock is gone."""


async def _campaign(connection: PlainConnection, name: str, work: Callable[[int], Awaitable[None]]) -> None:
    epoch = await _elected(connection, name)
    _log.info("leading", extra={"election": name, "epoch": epoch})
    leading = asyncio.ensure_future(work(epoch))
    watching = asyncio.ensure_future(_watch(connection))
    try:
        await asyncio.wait((leading, watching), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (leading, watching):
            task.cancel()
        await asyncio.wait((leading, watching))
    for task in (leading, watching):
        if not task.cancelled():
            task.result()


async def _elected(connection: PlainConnection, name: str) -> int:
    try:
        while not await _value(connection, "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name):
            await _pause()
        epoch: int = await _value(connection, "SELECT private.take_leadership($1, $2)", name, _holder())
    except _LOST as error:
        raise _Deposed(str(error)) from error
    return epoch


async def _watch(connection: PlainConnection) -> None:
    """Raises _Deposed as soon as the connection is known to be gone."""
    gone = asyncio.Event()
    connection.add_termination_listener(lambda _: gone.set())
    while not connection.is_closed():
        try:
            async with asyncio.timeout(_PROBE_EVERY):
                await gone.wait()
        except TimeoutError:
            try:
                await _value(connection, "SELECT 1")
            except _LOST as error:
                raise _Deposed(str(error)) from error
    raise _Deposed("the connection was closed")


async def _value(connection: PlainConnection, sql: str, *args: Any) -> Any:
    return await connection.fetchval(sql, *args, timeout=_PROBE_TIMEOUT)


async def _pause() -> None:
    await asyncio.sleep(_TRY_EVERY * random.uniform(0.5, 1.5))  # noqa: S311  (not a secret)


def _holder() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
