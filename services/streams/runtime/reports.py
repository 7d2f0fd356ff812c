"""What the runtimes have in common: the latest report of each container, and hints."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from threading import Lock
from uuid import UUID
from weakref import WeakSet

from encoder.report import LogLine, Report, State, parse

__all__ = ["Hints", "Reports", "last_log_lines", "last_report"]


class Hints:
    """Session ids handed to everyone who listens, coalesced.

    A listener that is slow keeps a set, not a queue: memory is bounded by the
    number of sessions whatever the number of changes.
    """

    def __init__(self) -> None:
        # Weak, because whoever stops iterating says nothing.
        self._listeners: WeakSet[_Listener] = WeakSet()
        self._lock = Lock()
        self._closed = False

    def give(self, session_id: UUID) -> None:
        """From any thread."""
        with self._lock:
            listeners = tuple(self._listeners)
        for listener in listeners:
            # A closed loop refuses: nobody listens there any more.
            with suppress(RuntimeError):
                listener.loop.call_soon_threadsafe(listener.add, session_id)

    def listen(self) -> AsyncIterator[UUID]:
        """Listens from the call on, not from the first step; ends when the runtime is closed."""
        listener = _Listener(asyncio.get_running_loop(), closed=self._closed)
        with self._lock:
            self._listeners.add(listener)
        return listener

    def close(self) -> None:
        """From the loop that listens."""
        self._closed = True
        for listener in tuple(self._listeners):
            listener.close()


class _Listener(AsyncIterator[UUID]):
    def __init__(self, loop: asyncio.AbstractEventLoop, *, closed: bool) -> None:
        self.loop = loop
        self._closed = closed
        self._awake = asyncio.Event()
        self._pending: dict[UUID, None] = {}

    def add(self, session_id: UUID) -> None:
        self._pending[session_id] = None
        self._awake.set()

    def close(self) -> None:
        self._closed = True
        self._awake.set()

    async def __anext__(self) -> UUID:
        while not self._pending:
            if self._closed:
                raise StopAsyncIteration
            self._awake.clear()
            await self._awake.wait()
        session_id = next(iter(self._pending))
        del self._pending[session_id]
        return session_id


class Reports:
    """The latest report per container id, from any thread.

    A follower hands them over one by one; who reads the end of an output anew
    overtakes it, and what the follower still has from before is then old.
    """

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._lock = Lock()
        self._latest: dict[str, _Latest] = {}

    def latest(self, container_id: str) -> Report | None:
        known = self._latest.get(container_id)
        return known.report if known else None

    def age(self, container_id: str) -> float:
        """Seconds since the latest came in here; by no clock of the encoder's. Infinite without one."""
        known = self._latest.get(container_id)
        return time.monotonic() - known.came_at if known else inf

    def put(self, container_id: str, session_id: UUID, report: Report) -> None:
        """The next one, in the order written. Hints where it says more than new counters."""
        with self._lock:
            known = self._latest.get(container_id)
            if known is not None and not known.gives_way_to(report):
                return
            self._keep(container_id, session_id, report)

    def overtake(self, container_id: str, session_id: UUID, report: Report, *, read_at: float) -> None:
        """The last one of an output whose reading began at that (monotonic) moment."""
        with self._lock:
            known = self._latest.get(container_id)
            if known is None or (known.came_at < read_at and known.report != report):
                self._keep(container_id, session_id, report, overtook=True)

    def forget(self, container_id: str) -> None:
        self._latest.pop(container_id, None)

    def _keep(self, container_id: str, session_id: UUID, report: Report, *, overtook: bool = False) -> None:
        before = self.latest(container_id)
        self._latest[container_id] = _Latest(report, time.monotonic(), overtook)
        if before is None or _news(before) != _news(report):
            self._hints.give(session_id)


@dataclass(slots=True)
class _Latest:
    report: Report
    came_at: float
    #: The follower has not come to this report yet.
    overtook: bool

    def gives_way_to(self, report: Report) -> bool:
        if self.report.state is State.ENDED:
            # The last word; whatever comes was written before.
            return False
        if not self.overtook:
            # In order, whatever the times in them: a clock may have been set back.
            return True
        if report == self.report:
            self.overtook = False
        return report.at > self.report.at


def _news(report: Report) -> tuple[object, ...]:
    return report.state, report.cause, report.attempt, report.first_media_at is None


def last_report(output: bytes) -> Report | None:
    """The newest whole report in an encoder's output, however it was cut."""
    for line in reversed(output.splitlines()):
        if isinstance(one := parse(line), Report):
            return one
    return None


def last_log_lines(output: bytes, limit: int) -> list[LogLine]:
    """At most `limit` log lines of an encoder's output, the newest, oldest first."""
    found: list[LogLine] = []
    for line in reversed(output.splitlines()):
        if len(found) >= limit:
            break
        if isinstance(one := parse(line), LogLine):
            found.append(one)
    return found[::-1]
