"""A clock that stands still until a test turns it."""

import asyncio
import heapq
from datetime import UTC, datetime, timedelta
from itertools import count


class ManualClock:
    """A `services.chassis.clock.Clock`; starts now, so that a real database's times compare."""

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime.now(UTC)
        self._elapsed = 0.0
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), awake))
        await awake

    async def advance(self, seconds: float) -> None:
        """Lets so much time pass; whoever slept until then has run when this returns."""
        until = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            moment, _, awake = heapq.heappop(self._sleepers)
            self._elapsed = moment
            if not awake.done():
                awake.set_result(None)
            for _ in range(3):
                await asyncio.sleep(0)
        self._elapsed = until
