"""Time as a constructor argument, so that tests can turn it by hand."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """Whoever asks for the time asks one of these."""

    def now(self) -> datetime:
        """Wall-clock time, aware, in UTC; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. Only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after so many monotonic seconds; zero or less yields once."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
