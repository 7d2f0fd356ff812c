"""One container per stream on a Docker Engine."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Event, Thread
from typing import Final, TypeVar
from uuid import UUID

from encoder.job import Job
from encoder.report import LogLine, Report, parse
from services.streams.runtime import (
    Container,
    ContainerState,
    EngineUnavailable,
    Launch,
    LaunchRefused,
)
from services.streams.runtime.docker_config import DockerConfig
from services.streams.runtime.docker_engine import (
    MEDIA,
    SESSION,
    Engine,
    NotOurs,
    Stream,
    container_name,
)
from services.streams.runtime.orders import job_of
from services.streams.runtime.reports import Hints, Reports, last_log_lines, last_report

__all__ = ["DockerConfig", "DockerRuntime"]

#: Lines enough to hold the latest report below a burst of ffmpeg's own.
_TAIL: Final = 200
#: Nothing at all may happen to containers for long, so the stream of events is
#: opened anew now and then: some engines and proxies let it go silent for ever.
_EVENTS_SILENCE: Final = 60.0
#: Encoders report once a second: older than this, the latest report is worth a look of its own.
_FRESH: Final = 3.0
#: Seconds between attempts to open a stream that broke.
_RECONNECT: Final = 0.5
#: How often, and how many seconds apart, to look for a container whose name is taken.
_LOOKS: Final = 40
_LOOK: Final = 0.05

_T = TypeVar("_T")


class DockerRuntime:
    """`Runtime` over the Docker SDK: blocking calls in a bounded number of threads.

    Beside them one thread per running container follows its reports, and one
    the engine's events once somebody listens. The list is the truth: both are
    only quicker.
    """

    name = "docker"

    def __init__(self, config: DockerConfig) -> None:
        self._engine = Engine(config)
        self._calls = ThreadPoolExecutor(config.calls, thread_name_prefix="docker-call")
        # Apart, because stops take seconds and launches must not wait for them.
        self._stops = ThreadPoolExecutor(config.stops, thread_name_prefix="docker-stop")
        self._hints = Hints()
        self._reports = Reports(self._hints)
        self._followers: dict[str, _Follower] = {}
        self._watcher: _Watcher | None = None
        #: What inspection said of a container, as long as its state is still that.
        self._known: dict[str, Container] = {}
        self._closing = Event()

    async def launch(self, order: Launch) -> Container:
        container = await self._call(self._launch, order)
        self._learn(container, backlog=_TAIL)
        return self._with_report(container)

    async def list(self) -> Sequence[Container]:
        # One launched while the engine makes its list is not in it, yet not gone.
        before = set(self._known)
        listed = await self._call(self._engine.list)
        for gone in before - {one.id for one in listed}:
            self._forget(gone)
        # Reports must be there when this returns, not on their way: whoever finds
        # an encoder silent ends it, and after the engine was away all seem to be.
        news = [one for one in listed if not self._is_known(one) or self._is_stale(one)]
        for found in await asyncio.gather(*(self._call(self._examine, one) for one in news)):
            if found is not None:
                self._learn(found, backlog=1)
        return [self._with_report(self._known[one.id]) for one in listed if one.id in self._known]

    async def stop(self, container_id: str) -> None:
        if await self._is_ours(container_id):
            await self._call(self._stop, container_id, pool=self._stops)

    async def remove(self, container_id: str) -> None:
        if await self._is_ours(container_id) and await self._call(self._engine.remove, container_id):
            self._forget(container_id)

    async def logs(self, container_id: str, *, limit: int) -> Sequence[LogLine]:
        if not await self._is_ours(container_id):
            return []
        return await self._call(self._log_lines, container_id, limit)

    def hints(self) -> AsyncIterator[UUID]:
        if self._watcher is None:
            self._watcher = _Watcher(self._engine, self._hints, self._closing)
            self._watcher.start()
        return self._hints.listen()

    async def close(self) -> None:
        self._closing.set()
        self._hints.close()
        threads: list[_Follower | _Watcher] = [*self._followers.values()]
        if self._watcher is not None:
            threads.append(self._watcher)
        for thread in threads:
            thread.close()
        self._stops.shutdown(wait=False, cancel_futures=True)
        self._calls.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(_join, threads)
        self._engine.close()

    def _launch(self, order: Launch) -> Container:
        job = job_of(order, MEDIA)
        name = container_name(order.session_id, order.generation)
        for _ in range(_LOOKS):
            if (made := self._engine.create(order)) is not None:
                return self._start(made, job)
            if (found := self._engine.inspect(name)) is not None:
                return found
            # The engine holds a name for a moment before it shows whose it is.
            self._closing.wait(_LOOK)
        raise EngineUnavailable(f"{name}: taken, and yet not there")

    def _start(self, made: str, job: Job) -> Container:
        try:
            self._engine.start(made, job)
        except (EngineUnavailable, LaunchRefused):
            # Nothing may be left of a launch that failed. Should it have started
            # after all, the engine refuses the removal and the next list shows it.
            with suppress(EngineUnavailable):
                self._engine.remove(made)
            raise
        found = self._engine.inspect(made)
        if found is None:
            raise EngineUnavailable(f"{made}: removed in the moment of its launch")
        return found

    def _stop(self, container_id: str) -> None:
        self._engine.stop(container_id)
        left = self._engine.inspect(container_id)
        if left is not None and left.state is ContainerState.CREATED:
            # Nothing ever ran in it, so it will never exit: its launch broke off.
            self._engine.remove(container_id)
        elif left is not None and left.state is ContainerState.RUNNING:
            raise EngineUnavailable(f"{container_id}: the engine says stopped, and it runs")

    def _examine(self, listed: Container) -> Container | None:
        found = self._engine.inspect(listed.id)
        if found is not None and found.started_at is not None:
            read_at = time.monotonic()
            report = last_report(self._engine.output(found.id, tail=_TAIL))
            if report is not None:
                self._reports.overtake(found.id, found.session_id, report, read_at=read_at)
        return found

    def _log_lines(self, container_id: str, limit: int) -> Sequence[LogLine]:
        # Reports come each second and log lines when something is wrong, so the
        # wanted ones may lie far back: look further until there is no further.
        tail = max(_TAIL, 4 * limit)
        while True:
            output = self._engine.output(container_id, tail=tail)
            found = last_log_lines(output, limit)
            if len(found) == limit or output.count(b"\n") < tail:
                return found
            tail *= 8

    async def _is_ours(self, container_id: str) -> bool:
        if container_id in self._known:
            return True
        try:
            return await self._call(self._engine.inspect, container_id) is not None
        except NotOurs:
            return False

    def _is_known(self, listed: Container) -> bool:
        known = self._known.get(listed.id)
        return known is not None and known.state is listed.state

    def _is_stale(self, listed: Container) -> bool:
        return listed.state is ContainerState.RUNNING and self._reports.age(listed.id) > _FRESH

    def _learn(self, container: Container, *, backlog: int) -> None:
        self._known[container.id] = container
        if container.state is not ContainerState.RUNNING or container.id in self._followers:
            return
        follower = _Follower(self._engine, container, self._reports, self._closing, backlog=backlog)
        self._followers[container.id] = follower
        follower.start()

    def _forget(self, container_id: str) -> None:
        self._known.pop(container_id, None)
        self._followers.pop(container_id, None)
        self._reports.forget(container_id)

    def _with_report(self, container: Container) -> Container:
        return replace(container, report=self._reports.latest(container.id))

    async def _call(
        self,
        call: Callable[..., _T],
        *args: object,
        pool: ThreadPoolExecutor | None = None,
    ) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool or self._calls, partial(call, *args))


class _Follower(Thread):
    """Keeps the reports of one container, until it has exited."""

    def __init__(
        self,
        engine: Engine,
        container: Container,
        reports: Reports,
        closing: Event,
        *,
        backlog: int,
    ) -> None:
        super().__init__(name=f"reports-{container.id[:12]}", daemon=True)
        self._engine = engine
        self._container = container
        self._reports = reports
        self._closing = closing
        self._backlog = backlog
        self._stream: Stream | None = None

    def run(self) -> None:
        tail = self._backlog
        while not self._closing.is_set():
            with suppress(EngineUnavailable):
                self._read(tail)
                if not self._goes_on():
                    return
            # A report is a whole snapshot: of those missed meanwhile the last will do.
            tail = 1
            self._closing.wait(_RECONNECT)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _read(self, tail: int) -> None:
        with self._engine.follow(self._container.id, tail=tail) as self._stream:
            if self._closing.is_set():
                return
            for line in self._stream.lines():
                one = parse(line)
                if isinstance(one, Report):
                    self._reports.put(self._container.id, self._container.session_id, one)

    def _goes_on(self) -> bool:
        found = self._engine.inspect(self._container.id)
        return found is not None and found.state is ContainerState.RUNNING


class _Watcher(Thread):
    """Turns the engine's events into hints, through every reconnection."""

    def __init__(self, engine: Engine, hints: Hints, closing: Event) -> None:
        super().__init__(name="docker-events", daemon=True)
        self._engine = engine
        self._hints = hints
        self._closing = closing
        self._stream: Stream | None = None

    def run(self) -> None:
        while not self._closing.is_set():
            with suppress(EngineUnavailable):
                self._watch()
            self._closing.wait(_RECONNECT)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def _watch(self) -> None:
        with self._engine.events(silence=_EVENTS_SILENCE) as self._stream:
            if self._closing.is_set():
                return
            # What happened while nobody watched is in no event: look at all of them.
            for container in self._engine.list():
                self._hints.give(container.session_id)
            for event in self._stream.objects():
                with suppress(KeyError, ValueError):
                    self._hints.give(UUID(event["Actor"]["Attributes"][SESSION]))


def _join(threads: Sequence[Thread]) -> None:
    for thread in threads:
        thread.join(timeout=1.0)
