"""Waiting for what tells nobody: another program's statistics, the process table."""

import asyncio
import time
from collections.abc import Callable

#: Between two looks, seconds.
_LOOK = 0.05


async def until(condition: Callable[[], bool], *, within: float = 20.0) -> None:
    """Returns once the condition, which may block, is true. Raises TimeoutError."""
    await asyncio.to_thread(_until, condition, within)


def _until(condition: Callable[[], bool], within: float) -> None:
    give_up = time.monotonic() + within
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"still not so after {within:g} s")
        time.sleep(_LOOK)
