"""Signals as a cancellation, so that everything begun is ended on the way out."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["cancelled_by_signals", "this_task"]

#: Ctrl-C, an ordinary kill, and the terminal going away.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """The first signal cancels this task; later ones find it ending already."""
    task, loop, told = this_task(), asyncio.get_running_loop(), False

    def cancel() -> None:
        nonlocal told
        if not told:
            told = True
            task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
