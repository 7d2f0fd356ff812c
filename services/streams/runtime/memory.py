"""A simulated engine: the contract without processes, in any clock's time.

For figures of the control plane alone, for simulation and for tests of whoever
uses a runtime. What an encoder does follows from its destination's behaviour
and the clock, so a thousand of them cost nothing while nobody looks.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import inf
from typing import Final
from uuid import UUID
from weakref import WeakSet

from encoder.exits import ExitCode
from encoder.job import Limits
from encoder.report import Cause, LogLine, Report, State
from services.chassis.clock import Clock
from services.streams.runtime import (
    Container,
    ContainerState,
    EngineUnavailable,
    Launch,
    LaunchRefused,
)
from services.streams.runtime.orders import job_of
from services.streams.runtime.reports import Hints

__all__ = [
    "Behaviour",
    "Delivers",
    "Dies",
    "Engine",
    "Loses",
    "MemoryRuntime",
    "Refuses",
    "Stalls",
    "Unreadable",
]

_LOG_LINES: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivers:
    """Takes everything."""

    #: Seconds from an attempt's begin to its first acknowledged byte.
    connect: float = 0.3
    kbps: float = 2600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuses:
    """Turns every attempt away before any media."""

    cause: Cause = Cause.REMOTE_REFUSED
    connect: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """Takes media for a while and then, still connected, nothing more; in every attempt."""

    after: float = 5.0
    connect: float = 0.3
    kbps: float = 2600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Loses:
    """Takes media for a while and then drops the connection; in every attempt."""

    after: float = 5.0
    connect: float = 0.3
    kbps: float = 2600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dies:
    """The container goes in the midst of delivery and says no last word."""

    after: float = 5.0
    exit_code: int = 137
    connect: float = 0.3
    kbps: float = 2600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """The destination would do, the source does not."""

    after: float = 0.1


Behaviour = Delivers | Refuses | Stalls | Loses | Dies | Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """What an encoder reports from a moment on, counters apart."""

    #: Seconds since its start.
    at: float
    attempt: int
    state: State
    cause: Cause | None = None
    detail: str = ""
    #: Acknowledged rate as long as the phase lasts.
    kbps: float = 0.0
    #: In BACKOFF, seconds since its start.
    retry_at: float | None = None
    #: Set where the container has exited; the rest is then its last word.
    exit_code: int | None = None


def _phases(behaviour: Behaviour, limits: Limits) -> Iterator[_Phase]:
    at, barren = 0.0, 0
    cause: Cause | None = None
    for attempt in count(1):
        yield _Phase(
            at=at,
            attempt=attempt,
            state=State.CONNECTING,
            cause=cause,
            detail=_detail(cause),
        )
        match behaviour:
            case Unreadable(after=after):
                yield _ended(at + after, attempt, Cause.SOURCE)
                return
            case Refuses(cause=cause, connect=connect):
                at += connect
                barren += 1
            case Delivers(connect=connect, kbps=kbps):
                yield _Phase(at=at + connect, attempt=attempt, state=State.DELIVERING, kbps=kbps)
                return
            case Dies(connect=connect, kbps=kbps):
                at += connect
                yield _Phase(at=at, attempt=attempt, state=State.DELIVERING, kbps=kbps)
                at += behaviour.after
                yield _Phase(
                    at=at,
                    attempt=attempt,
                    state=State.DELIVERING,
                    exit_code=behaviour.exit_code,
                )
                return
            case Loses(connect=connect, kbps=kbps):
                at += connect
                yield _Phase(at=at, attempt=attempt, state=State.DELIVERING, kbps=kbps)
                at += behaviour.after
                cause = Cause.NETWORK
            case Stalls(connect=connect, kbps=kbps):
                at += connect
                yield _Phase(at=at, attempt=attempt, state=State.DELIVERING, kbps=kbps)
                at += behaviour.after
                cause = Cause.STALLED
                # Until the encoder calls it a stall it goes on saying delivering, of nothing.
                yield _Phase(at=at, attempt=attempt, state=State.DELIVERING)
                yield _Phase(
                    at=at + limits.stall,
                    attempt=attempt,
                    state=State.STALLED,
                    cause=cause,
                    detail=_detail(cause),
                )
                at += limits.give_up
        if barren >= limits.barren_attempts:
            yield _ended(at, attempt, cause)
            return
        delay = min(limits.backoff_max, limits.backoff_first * 2 ** min(max(barren - 1, 0), 30))
        yield _Phase(
            at=at,
            attempt=attempt,
            state=State.BACKOFF,
            cause=cause,
            detail=_detail(cause),
            retry_at=at + delay,
        )
        at += delay


def _ended(at: float, attempt: int, cause: Cause | None) -> _Phase:
    return _Phase(
        at=at,
        attempt=attempt,
        state=State.ENDED,
        cause=cause,
        detail=_detail(cause),
        exit_code=ExitCode.GAVE_UP if cause else ExitCode.STOPPED,
    )


def _detail(cause: Cause | None) -> str:
    return f"simulated: {cause}" if cause else ""


class _Encoder:
    """One simulated container."""

    __slots__ = (
        "_bytes",
        "_first_media",
        "_last_media",
        "_next",
        "_offset",
        "_phase",
        "_phases",
        "_seconds",
        "_started_at",
        "began",
        "id",
        "log",
        "order",
        "owner",
    )

    def __init__(
        self,
        container_id: str,
        owner: str,
        order: Launch,
        behaviour: Behaviour,
        clock: Clock,
    ) -> None:
        self.id = container_id
        self.owner = owner
        self.order = order
        self.log: deque[LogLine] = deque(maxlen=_LOG_LINES)
        #: By the monotonic clock, as every time here but those in a report.
        self.began = clock.monotonic()
        self._started_at = clock.now()
        self._offset = self._started_at.timestamp() - self.began
        self._phases = _phases(behaviour, order.limits)
        self._phase = next(self._phases)
        self._next = next(self._phases, None)
        self._bytes = self._seconds = 0.0
        self._first_media: float | None = None
        self._last_media: float | None = None

    @property
    def exited(self) -> bool:
        return self._phase.exit_code is not None

    @property
    def connected(self) -> bool:
        """Whether a server would see it."""
        return not self.exited and self._phase.state is not State.BACKOFF

    @property
    def next_change(self) -> float:
        """Infinite where nothing more will come by itself."""
        return self.began + self._next.at if self._next else inf

    def step(self) -> None:
        """Goes over to the next phase, whose time has come."""
        if self._next is not None:
            self._enter(self._next)
            self._next = next(self._phases, None)

    def end(self, now: float) -> None:
        """As asked: its last line says no cause."""
        self._enter(_ended(now - self.began, self._phase.attempt, None))
        self._next = None

    def die(self, now: float, exit_code: int) -> None:
        """Without a last word."""
        self._enter(replace(self._phase, at=now - self.began, kbps=0.0, exit_code=exit_code))
        self._next = None

    def container(self, now: float) -> Container:
        return Container(
            id=self.id,
            session_id=self.order.session_id,
            generation=self.order.generation,
            state=ContainerState.EXITED if self.exited else ContainerState.RUNNING,
            started_at=self._started_at,
            exit_code=self._phase.exit_code,
            report=self._report(now),
        )

    def _enter(self, phase: _Phase) -> None:
        at = self.began + phase.at
        if self._phase.kbps:
            self._bytes, self._seconds = self._totals(at)
            self._last_media = at
        self._phase = phase
        if phase.kbps and self._first_media is None:
            self._first_media = at
        if phase.detail:
            self.log.append(LogLine(at=self._offset + at, attempt=phase.attempt, text=phase.detail))

    def _totals(self, until: float) -> tuple[float, float]:
        """Bytes and seconds delivered, in a phase of delivery."""
        lasted = until - self.began - self._phase.at
        return self._bytes + lasted * self._phase.kbps * 125, self._seconds + lasted

    def _report(self, now: float) -> Report:
        phase = self._phase
        at = self.began + phase.at if self.exited else now
        flows = phase.kbps > 0
        total_bytes, total_seconds = self._totals(at) if flows else (self._bytes, self._seconds)
        return Report(
            at=self._offset + at,
            attempt=phase.attempt,
            state=phase.state,
            cause=phase.cause,
            detail=phase.detail,
            first_media_at=self._unix(self._first_media),
            last_media_at=self._unix(at if flows else self._last_media),
            delivered_seconds=total_seconds,
            acknowledged_bytes=int(total_bytes),
            bitrate_kbps=phase.kbps,
            fps=30.0 if flows else 0.0,
            retry_at=self._unix(None if phase.retry_at is None else self.began + phase.retry_at),
        )

    def _unix(self, at: float | None) -> float | None:
        return None if at is None else self._offset + at


class Engine:
    """What outlives the control plane: hand the same one to the next runtime."""

    def __init__(self, clock: Clock, *, stop_takes: float = 0.0) -> None:
        self.clock = clock
        #: Seconds an encoder needs to end when asked.
        self.stop_takes = stop_takes
        self._behaviours: dict[str, Behaviour] = {}
        self._default: Behaviour = Delivers()
        self._encoders: dict[str, _Encoder] = {}
        self._names: dict[tuple[UUID, int], str] = {}
        self._numbers = count(1)
        #: (time of the next change, id): one entry per encoder to which something will happen.
        self._changes: list[tuple[float, str]] = []
        self._runtimes: WeakSet[MemoryRuntime] = WeakSet()
        self._up = True
        self._answers_to_lose = 0
        #: While set, every launch of something new is refused with this text.
        self.refusing: str | None = None

    def behave(self, destination: str, behaviour: Behaviour) -> None:
        """How encoders launched to this destination from now on will fare; others deliver."""
        self._behaviours[destination] = behaviour

    def down(self) -> None:
        """Nothing is answered until `up`; the encoders go on."""
        self._up = False

    def up(self) -> None:
        self._up = True
        # As a real one does when its stream of events is opened anew.
        for encoder in self._encoders.values():
            self._tell(encoder)

    def lose_answer(self) -> None:
        """The next request is carried out and its answer lost: EngineUnavailable, although done."""
        self._answers_to_lose += 1

    def kill(self, container_id: str, *, exit_code: int = 137) -> None:
        """From outside, as the kernel does when memory runs out."""
        self.advance()
        encoder = self._encoders[container_id]
        if not encoder.exited:
            encoder.die(self.clock.monotonic(), exit_code)
            self._tell(encoder)

    def publishers(self, destination: str, stream_key: str) -> int:
        """Encoders connected there now. More than one is the error this system exists to prevent."""
        self.advance()
        return sum(
            encoder.connected
            and encoder.order.destination == destination
            and encoder.order.stream_key == stream_key
            for encoder in self._encoders.values()
        )

    def advance(self) -> None:
        """Lets everything happen that is due."""
        now = self.clock.monotonic()
        while self._changes and self._changes[0][0] <= now:
            encoder = self._encoders.get(heapq.heappop(self._changes)[1])
            if encoder is None or encoder.exited:
                continue
            encoder.step()
            self._expect(encoder)
            self._tell(encoder)

    @property
    def next_change(self) -> float:
        """By the clock's monotonic time; infinite when nothing more will come by itself."""
        return self._changes[0][0] if self._changes else inf

    def launch(self, owner: str, order: Launch) -> Container:
        self._asked()
        name = order.session_id, order.generation
        encoder = self._encoders.get(self._names.get(name, ""))
        if encoder is None:
            if self.refusing is not None:
                raise LaunchRefused(self.refusing)
            job_of(order, "/media")  # for its refusals
            behaviour = self._behaviours.get(order.destination, self._default)
            encoder = _Encoder(f"simulated-{next(self._numbers)}", owner, order, behaviour, self.clock)
            self._encoders[encoder.id] = encoder
            self._names[name] = encoder.id
            self._expect(encoder)
            self._tell(encoder)
        elif encoder.owner != owner:
            raise LaunchRefused("the name is taken by a container of another deployment")
        self._answer()
        return encoder.container(self.clock.monotonic())

    def list(self, owner: str) -> Sequence[Container]:
        self._asked()
        self._answer()
        now = self.clock.monotonic()
        return [one.container(now) for one in self._encoders.values() if one.owner == owner]

    async def stop(self, owner: str, container_id: str) -> None:
        encoder = self._find(owner, container_id)
        if encoder is None or encoder.exited:
            return
        if self.stop_takes:
            await self.clock.sleep(self.stop_takes)
            self.advance()
        if not encoder.exited:
            encoder.end(self.clock.monotonic())
            self._tell(encoder)
        self._answer()

    def remove(self, owner: str, container_id: str) -> None:
        encoder = self._find(owner, container_id)
        if encoder is not None and encoder.exited:
            del self._encoders[container_id]
            del self._names[encoder.order.session_id, encoder.order.generation]
            self._tell(encoder)
        self._answer()

    def logs(self, owner: str, container_id: str, limit: int) -> Sequence[LogLine]:
        encoder = self._find(owner, container_id)
        self._answer()
        return list(encoder.log)[-limit:] if encoder is not None and limit > 0 else []

    def attend(self, runtime: "MemoryRuntime") -> None:
        """Tells this runtime of every change from now on, for as long as it lives."""
        self._runtimes.add(runtime)

    def _find(self, owner: str, container_id: str) -> _Encoder | None:
        self._asked()
        encoder = self._encoders.get(container_id)
        return encoder if encoder is not None and encoder.owner == owner else None

    def _asked(self) -> None:
        if not self._up:
            raise EngineUnavailable("the simulated engine is down")
        self.advance()

    def _answer(self) -> None:
        if self._answers_to_lose:
            self._answers_to_lose -= 1
            raise EngineUnavailable("the simulated engine's answer was lost")

    def _expect(self, encoder: _Encoder) -> None:
        if encoder.next_change < inf:
            heapq.heappush(self._changes, (encoder.next_change, encoder.id))
            for runtime in self._runtimes:
                runtime.expect(encoder.next_change)

    def _tell(self, encoder: _Encoder) -> None:
        if self._up:
            for runtime in self._runtimes:
                runtime.tell(encoder.owner, encoder.order.session_id)


class MemoryRuntime:
    """`Runtime` over a simulated `Engine`."""

    name = "memory"

    def __init__(self, engine: Engine, *, owner: str = "streamax") -> None:
        self._engine = engine
        self._owner = owner
        self._hints = Hints()
        self._pump: asyncio.Task[None] | None = None
        self._sooner = asyncio.Event()
        self._wakes_at = inf
        engine.attend(self)

    async def launch(self, order: Launch) -> Container:
        return self._engine.launch(self._owner, order)

    async def list(self) -> Sequence[Container]:
        return self._engine.list(self._owner)

    async def stop(self, container_id: str) -> None:
        await self._engine.stop(self._owner, container_id)

    async def remove(self, container_id: str) -> None:
        self._engine.remove(self._owner, container_id)

    async def logs(self, container_id: str, *, limit: int) -> Sequence[LogLine]:
        return self._engine.logs(self._owner, container_id, limit)

    def hints(self) -> AsyncIterator[UUID]:
        if self._pump is None:
            self._pump = asyncio.create_task(self._run(), name="simulated-engine")
        return self._hints.listen()

    async def close(self) -> None:
        self._hints.close()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])

    def tell(self, owner: str, session_id: UUID) -> None:
        """The engine's: something of this session changed."""
        if owner == self._owner:
            self._hints.give(session_id)

    def expect(self, at: float) -> None:
        """The engine's: something will change then."""
        if at < self._wakes_at:
            self._sooner.set()

    async def _run(self) -> None:
        """Lets time pass in the engine though nobody asks it anything."""
        while True:
            self._engine.advance()
            self._wakes_at = self._engine.next_change
            self._sooner.clear()
            await self._nap(self._wakes_at - self._engine.clock.monotonic())

    async def _nap(self, seconds: float) -> None:
        """For so long, or until something is to happen sooner."""
        waits = [asyncio.create_task(self._called())]
        if seconds < inf:
            waits.append(asyncio.create_task(self._sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    async def _called(self) -> None:
        await self._sooner.wait()

    async def _sleep(self, seconds: float) -> None:
        await self._engine.clock.sleep(seconds)
