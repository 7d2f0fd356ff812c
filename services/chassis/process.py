"""A service as one or several processes: start, signals, restarts, a clean end.

With several workers each serves the same port through SO_REUSEPORT and the
kernel spreads the connections; what only one may do is decided by leader.lead.
The parent runs no gRPC and no event loop: forking is safe before those exist
and is not after.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import uvloop

from services.chassis import logs

__all__ = ["Main", "Worker", "run"]

_log = logging.getLogger(__name__)

_STOPS = (signal.SIGTERM, signal.SIGINT)
# Real-time signals queue: two workers that are ready at once are heard twice.
_READY = signal.SIGRTMIN
_HEARD = (*_STOPS, signal.SIGCHLD, _READY)

# A worker that dies at once is not started again at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STEADY_AFTER = 60.0


@dataclass(slots=True, kw_only=True)
class Worker:
    """What a service's `serve` is told about its process."""

    index: int = 0
    count: int = 1
    #: Set when the process is to drain and end.
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def reuse_port(self) -> bool:
        return self.count > 1

    def ready(self, address: str) -> None:
        """Says that calls are answered. Starters wait for the one line `"message":"ready"` on stderr."""
        # What exists by now stays: a full collection need not walk through it, in the
        # middle of somebody's call, ever again (measured: 31 ms each time).
        gc.collect()
        gc.freeze()
        if self.count == 1:
            logs.event("ready", address=address, workers=1)
        else:
            logs.event("worker ready", address=address, worker=self.index)
            os.kill(os.getppid(), _READY)
        logs.flush()


Main = Callable[[Worker], Coroutine[Any, Any, None]]


def run(main: Main, *, workers: int = 1, stop_within: float = 30.0) -> int:
    """Runs `main` in so many processes until told to stop; returns the exit status.

    The first SIGTERM or SIGINT sets `worker.stopping`, the second cancels `main`.
    Of several workers, one that still runs `stop_within` seconds later is killed,
    and one that crashes is started again; if none ever came up, all of it fails.
    """
    if workers == 1:
        return _work(main, Worker())
    return _Parent(main, workers, stop_within).run()


def _work(main: Main, worker: Worker, *, orphaned: int | None = None) -> int:
    """`orphaned` becomes readable when the parent is gone."""

    async def guarded() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101  (Runner runs a coroutine in a task)

        def told() -> None:
            if worker.stopping.is_set():
                task.cancel()
            worker.stopping.set()

        def abandoned() -> None:
            loop.remove_reader(orphaned or 0)
            told()

        loop.add_signal_handler(signal.SIGTERM, told)
        if worker.count == 1:
            loop.add_signal_handler(signal.SIGINT, told)
        if orphaned is not None:
            loop.add_reader(orphaned, abandoned)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        await main(worker)

    with contextlib.suppress(asyncio.CancelledError):
        uvloop.run(guarded())
    logs.flush()
    return 0


@dataclass(slots=True)
class _Place:
    """One of the n workers, whichever process fills it now."""

    index: int
    pid: int | None = None
    ready: bool = False
    started_at: float = 0.0
    start_at: float = 0.0
    pause: float = _FIRST_PAUSE


class _Parent:
    """Keeps n workers alive; lives from signal to signal."""

    def __init__(self, main: Main, workers: int, stop_within: float) -> None:
        self._main = main
        self._places = [_Place(index) for index in range(workers)]
        self._stop_within = stop_within
        self._kill_at: float | None = None
        self._announced = False
        self._status = 0
        # Never written to: workers see its end when the parent is gone, however it went.
        self._lifeline, self._held = os.pipe()

    def run(self) -> int:
        # Signals are waited for, not handled: none can arrive between two lines of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        while self._kill_at is None or self._alive():
            self._start_due()
            heard = signal.sigtimedwait(_HEARD, self._patience())
            if heard is not None:
                self._hear(heard)
            if self._kill_at is not None and time.monotonic() > self._kill_at:
                self._tell(signal.SIGKILL)
        logs.flush()
        return self._status

    def _alive(self) -> list[_Place]:
        return [place for place in self._places if place.pid is not None]

    def _patience(self) -> float:
        moments = [place.start_at for place in self._places if place.pid is None and self._kill_at is None]
        if self._kill_at is not None:
            moments.append(self._kill_at)
        return max(0.05, min(moments, default=time.monotonic() + 60) - time.monotonic())

    def _start_due(self) -> None:
        if self._kill_at is None:
            for place in self._places:
                if place.pid is None and place.start_at <= time.monotonic():
                    self._fork(place)

    def _fork(self, place: _Place) -> None:
        logs.flush()
        place.started_at, place.ready = time.monotonic(), False
        place.pid = os.fork()
        if place.pid == 0:
            os._exit(self._be(place.index))

    def _be(self, index: int) -> int:
        # Ctrl-C reaches every process of the terminal; the parent passes it on as SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(self._held)
        try:
            return _work(self._main, Worker(index=index, count=len(self._places)), orphaned=self._lifeline)
        except BaseException:
            # Nothing may return into the parent's code. The hook logs it, and the parent sees the status.
            sys.excepthook(*sys.exc_info())
            return 1
        finally:
            logs.flush()

    def _hear(self, heard: signal.struct_siginfo) -> None:
        if heard.si_signo in _STOPS:
            self._stop()
        elif heard.si_signo == _READY:
            self._note_ready(heard.si_pid)
        else:
            self._reap()

    def _stop(self) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._stop_within
        self._tell(signal.SIGTERM)

    def _tell(self, number: signal.Signals) -> None:
        for place in self._alive():
            os.kill(place.pid or 0, number)

    def _note_ready(self, pid: int) -> None:
        for place in self._places:
            place.ready = place.ready or place.pid == pid
        if not self._announced and all(place.ready for place in self._places):
            self._announced = True
            logs.event("ready", workers=len(self._places))
            logs.flush()

    def _reap(self) -> None:
        for place in self._alive():
            pid, status = os.waitpid(place.pid or 0, os.WNOHANG)
            if pid:
                self._bury(place, os.waitstatus_to_exitcode(status))

    def _bury(self, place: _Place, status: int) -> None:
        place.pid = None
        if self._kill_at is not None:
            self._status = self._status or abs(status)
            return
        _log.error("worker died", extra={"worker": place.index, "status": status})
        if not any(each.ready for each in self._places) and not self._announced:
            # Wrong from the start: whoever started us must hear of it, not a restart loop.
            self._status = 1
            self._stop()
            return
        if time.monotonic() - place.started_at > _STEADY_AFTER:
            place.pause = _FIRST_PAUSE
        place.start_at = time.monotonic() + place.pause
        place.pause = min(place.pause * 2, _LONGEST_PAUSE)
