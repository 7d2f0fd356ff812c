"""How long to wait before the next attempt, and when to give up."""

import random
from collections.abc import Callable

from encoder.job import Limits


class Backoff:
    """1, 2, 4 … seconds up to the cap, each shortened at random, until a connection proves healthy."""

    def __init__(self, limits: Limits, *, draw: Callable[[], float] = random.random) -> None:
        self._limits = limits
        self._draw = draw
        self._failures = 0
        self._barren = 0

    def failed(self, *, delivering: float | None) -> float | None:
        """Seconds until the next attempt; None to give up.

        `delivering` is how long the failed attempt delivered media, seconds; None
        if not a byte of it was acknowledged.
        """
        self._barren = self._barren + 1 if delivering is None else 0
        if delivering is not None and delivering >= self._limits.healthy:
            self._failures = 0
        if self._barren >= self._limits.barren_attempts:
            return None
        # 2**64 would not fit a float's patience: the cap is reached long before.
        delay = self._limits.backoff_first * 2.0 ** min(self._failures, 64)
        self._failures += 1
        return min(delay, self._limits.backoff_max) * (1 - self._limits.jitter * self._draw())
