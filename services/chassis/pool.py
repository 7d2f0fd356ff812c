"""Connections lent one at a time, in microseconds.

asyncpg's own pool costs 27-50 us of CPU a query on top of the query's own 13-19:
acquire goes through wait_for, release through a task and a shield, and the
default reset is a second round trip. Ours is a list. It keeps what makes a pool
safe: a connection whose last use ended in doubt proves itself before it is lent
again, and one that is closed, or old, is replaced.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    # Generic in its stubs only.
    PlainConnection = asyncpg.Connection[asyncpg.Record]
else:
    PlainConnection = asyncpg.Connection

__all__ = ["Lent", "PlainConnection", "Pool"]

_log = logging.getLogger(__name__)

_PROOF_TIMEOUT = 5.0
_CUT_OFF_TIMEOUT = 1.0
# The last one is asyncpg's confusion when the server ends an idle connection just
# as a statement is sent: "cannot switch to state 12; another operation is in progress".
_FAILURES = (
    TimeoutError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(slots=True, eq=False)
class Lent:
    """A connection in its borrower's hands."""

    connection: PlainConnection
    #: In the event loop's time.
    connected_at: float


class Pool:
    """At most `size` connections, the warmest lent first, waiters served in turn."""

    def __init__(
        self, connect: Callable[[], Awaitable[PlainConnection]], *, size: int, longest_life: float
    ) -> None:
        """`longest_life` in seconds: backends cache plans and catalogues, and only grow."""
        self._connect = connect
        self._size = size
        self._longest_life = longest_life
        self._loop = asyncio.get_running_loop()
        self._idle: list[Lent] = []
        # Lent, idle and being proven; `_count` also counts those being connected.
        self._all: set[Lent] = set()
        self._count = 0
        self._waiting: deque[asyncio.Future[Lent | None]] = deque()
        self._proving: set[asyncio.Task[None]] = set()
        self._closed = False
        self._empty = asyncio.Event()

    def take(self) -> Lent | None:
        """A connection, if one is at hand."""
        while self._idle:
            lent = self._idle.pop()
            if not lent.connection.is_closed():
                return lent
            self._drop(lent)
        return None

    async def wait(self, *, patience: float) -> Lent:
        """A connection: at hand, made or given back within `patience` seconds.

        Raises TimeoutError, and whatever connecting raises.
        """
        async with asyncio.timeout(patience):
            return self.take() or await self._next()

    def give_back(self, lent: Lent, *, doubtful: bool = False) -> None:
        """Takes a connection back; `doubtful` when its last statement did not come to its end."""
        if not lent.connection.is_closed() and (doubtful or lent.connection.is_in_transaction()):
            proving = self._loop.create_task(self._prove(lent), name="prove connection")
            self._proving.add(proving)
            proving.add_done_callback(self._proving.discard)
        else:
            self._shelve(lent)

    async def close(self, *, patience: float) -> None:
        """Waits so long for what is lent, then cuts it off."""
        self._closed = True
        while self._idle:
            self._drop(self._idle.pop())
        if self._all:
            await asyncio.wait([self._loop.create_task(self._empty.wait())], timeout=patience)
        await asyncio.gather(*(self._cut_off(lent) for lent in self._all))

    async def _cut_off(self, lent: Lent) -> None:
        # close(), because it also tells the server to end the statement that still runs.
        with contextlib.suppress(*_FAILURES):
            await lent.connection.close(timeout=_CUT_OFF_TIMEOUT)

    async def _next(self) -> Lent:
        while self._count >= self._size:
            turn: asyncio.Future[Lent | None] = self._loop.create_future()
            self._waiting.append(turn)
            try:
                lent = await turn
            except asyncio.CancelledError:
                self._leave_queue(turn)
                raise
            if lent is not None and not lent.connection.is_closed():
                return lent
            if lent is not None:
                self._drop(lent)
        return await self._make()

    def _leave_queue(self, turn: asyncio.Future[Lent | None]) -> None:
        if turn.cancelled():
            # Whoever gave something back in the meantime has passed it over already.
            with contextlib.suppress(ValueError):
                self._waiting.remove(turn)
            return
        # Cancelled in the same moment in which it was served: pass it on.
        lent = turn.result()
        if lent is None:
            self._call_next(None)
        else:
            self._shelve(lent)

    async def _make(self) -> Lent:
        self._count += 1
        try:
            lent = Lent(await self._connect(), self._loop.time())
        except BaseException:
            self._count -= 1
            self._call_next(None)
            raise
        self._all.add(lent)
        self._empty.clear()
        return lent

    def _shelve(self, lent: Lent) -> None:
        old = self._loop.time() - lent.connected_at > self._longest_life
        if self._closed or old or lent.connection.is_closed():
            self._drop(lent)
            self._call_next(None)
        elif not self._call_next(lent):
            self._idle.append(lent)

    def _drop(self, lent: Lent) -> None:
        # Not close(): the backend notices as well, and nobody waits for its goodbye.
        lent.connection.terminate()
        if lent in self._all:
            self._all.discard(lent)
            self._count -= 1
        if not self._all:
            self._empty.set()

    def _call_next(self, lent: Lent | None) -> bool:
        """Gives the next in the queue a connection, or the room to make one."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(lent)
                return True
        return False

    async def _prove(self, lent: Lent) -> None:
        # A cancelled statement may still run: asyncpg has asked the server to stop
        # it, and this waits until it has.
        try:
            await lent.connection.execute("SELECT 1", timeout=_PROOF_TIMEOUT)
            if lent.connection.is_in_transaction():
                lent.connection.terminate()
        except _FAILURES as error:
            _log.info("connection dropped", extra={"detail": str(error)})
            lent.connection.terminate()
        finally:
            self._shelve(lent)
