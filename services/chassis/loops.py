"""Background work: run once, count what was done, wait, again; whatever happens."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from services.chassis.clock import Clock, SystemClock

__all__ = ["Counts", "Loop"]

#: What one run did, by name: `{"started": 2, "adopted": 1}`.
Counts = Mapping[str, int]

_log = logging.getLogger(__name__)

# An error usually means that a dependency is down: asking it again every
# interval helps nobody, but a minute is the longest we leave work undone.
_LONGEST_BACKOFF = 60.0


class Loop:
    """Runs `run_once` every `interval`, give or take `jitter`, until cancelled.

    The first run comes at once. `wake` makes the next one come at once. Errors
    are logged with their traceback and double the pause up to a minute.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[Counts]],
        *,
        interval: timedelta,
        jitter: float = 0.1,
        clock: Clock | None = None,
    ) -> None:
        """`jitter` is the fraction of the interval by which a pause may be longer or shorter."""
        self.name = name
        self._run_once = run_once
        self._interval = interval.total_seconds()
        self._jitter = jitter
        self._clock = clock or SystemClock()
        self._woken = asyncio.Event()
        self._failures = 0

    def wake(self) -> None:
        """Run soon: at once when pausing, once more when already running."""
        self._woken.set()

    async def run(self) -> None:
        """Ticks until cancelled."""
        while True:
            self._woken.clear()
            await self._tick()
            await self._pause()

    async def _tick(self) -> None:
        try:
            counts = await self._run_once()
        except Exception:
            # One of the two places that catch everything: a loop must outlive
            # any one bad run, and what it does is repaired by its next run.
            self._failures += 1
            _log.exception("loop failed", extra={"loop": self.name, "failures": self._failures})
            return
        self._failures = 0
        done = {name: count for name, count in counts.items() if count}
        if done:
            _log.info("loop worked", extra={"loop": self.name, "counts": done})

    async def _pause(self) -> None:
        if self._failures:
            # A wake-up must not defeat the backoff: whatever wakes us may come
            # in floods just when a dependency is down.
            await self._clock.sleep(self._backoff())
            return
        spread = 1 + random.uniform(-self._jitter, self._jitter)  # noqa: S311  (not a secret)
        sleep = asyncio.ensure_future(self._clock.sleep(self._interval * spread))
        woken = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait((sleep, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            woken.cancel()

    def _backoff(self) -> float:
        longest = self._interval * 2.0 ** min(self._failures, 16)
        return min(max(longest, 0.1), _LONGEST_BACKOFF) * random.uniform(0.5, 1)  # noqa: S311
