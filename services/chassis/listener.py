"""Wake-ups from PostgreSQL: one connection for all channels, made again for ever."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import asyncpg

from services.chassis.pool import PlainConnection

__all__ = ["Listener", "pauses"]

_log = logging.getLogger(__name__)

_PROBE_EVERY = 10.0
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


def pauses() -> Iterator[float]:
    """Seconds between attempts to connect: soon at first, then every other second."""
    yield from (0.1, 0.25, 0.5, 1.0)
    while True:
        yield 2.0


class Listener:
    """Calls back with every payload, and with "" after each connect: some may have been missed."""

    def __init__(self, connect: Callable[[], Awaitable[PlainConnection]]) -> None:
        self._connect = connect
        self._callbacks: dict[str, list[Callable[[str], None]]] = {}
        self._connection: PlainConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def add(self, channel: str, callback: Callable[[str], None]) -> None:
        """From now on, or from when there is a connection; the first add makes it."""
        self._callbacks.setdefault(channel, []).append(callback)
        if self._task is None:
            self._task = asyncio.create_task(self._stay_connected(), name="database listener")
        elif self._connection is not None:
            await self._subscribe(self._connection, channel)
            callback("")

    async def close(self) -> None:
        """No more callbacks."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stay_connected(self) -> None:
        while True:
            connection = await self._connected()
            try:
                await self._follow(connection)
            except _LOST as error:
                _log.warning("listener lost its connection", extra={"detail": str(error)})
            finally:
                self._connection = None
                connection.terminate()

    async def _connected(self) -> PlainConnection:
        for pause in pauses():
            try:
                return await self._connect()
            except _LOST as error:
                _log.warning("listener not connected", extra={"detail": str(error)})
                # All listeners of all processes lose a database at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
        raise AssertionError("pauses() does not end")

    async def _follow(self, connection: PlainConnection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        for channel in list(self._callbacks):
            await self._subscribe(connection, channel)
        self._connection = connection
        for callbacks in self._callbacks.values():
            for callback in callbacks:
                callback("")
        while not lost.is_set():
            try:
                async with asyncio.timeout(_PROBE_EVERY):
                    await lost.wait()
            except TimeoutError:
                # A half-open connection delivers nothing, and says nothing of it.
                await connection.fetchval("SELECT 1", timeout=_PROBE_EVERY)

    async def _subscribe(self, connection: PlainConnection, channel: str) -> None:
        await connection.add_listener(channel, self._deliver)

    def _deliver(self, _connection: Any, _pid: int, channel: str, payload: Any) -> None:
        for callback in self._callbacks.get(channel, ()):
            callback(str(payload))
