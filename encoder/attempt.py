"""One attempt: an ffmpeg from its start to its end, watched."""

import os
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from encoder.child import Child, Escalation
from encoder.delivery import Delivery, allowance
from encoder.events import CHUNK, Events
from encoder.failure import Evidence, Failure, explain, explain_silence, explain_stall
from encoder.job import Job
from encoder.lines import LineReader
from encoder.progress import Progress, ProgressReader
from encoder.report import State
from encoder.tcp import Unreadable, Watch

#: Seconds between two looks at the connection: until media flows, for the first
#: seconds and after, and then. A look costs 20 microseconds once the socket is known.
EAGER: Final = 0.02
EAGER_FOR: Final = 2.0
WAITING: Final = 0.05
FLOWING: Final = 0.25

#: A connection that takes nothing more takes no farewell either: no grace for one.
NO_GRACE: Final = 0.2


class End(Enum):
    """Why we end an attempt ourselves."""

    ASKED = auto()
    #: Media time nears the wrap of FLV's clock.
    ROLL = auto()
    SILENT = auto()
    STALLED = auto()


class Attempt:
    """A running attempt. Moments are monotonic seconds."""

    def __init__(
        self,
        job: Job,
        *,
        spawn: Callable[[], Child],
        events: Events,
        log: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        """Starts ffmpeg. Raises OSError if the host cannot."""
        self._limits = job.limits
        self._events = events
        self._log = log
        self._clock = clock
        self.child = spawn()
        self.delivery = Delivery(began=clock(), allowance=allowance(job))
        self.progress = Progress(seconds=0.0, frames=0, dropped_frames=0)
        #: Why it stands still, while it does, or why it was given up.
        self.diagnosis: Failure | None = None
        self.end_reason: End | None = None
        self._escalation: Escalation | None = None
        self._evidence = Evidence()
        self._lines = LineReader(job.stream_key)
        self._blocks = ProgressReader()
        self._watch = Watch(self.child.pid)
        self._blind = False
        self._next_look = 0.0
        events.add(self.child.progress, self._read_progress)
        events.add(self.child.output, self._read_output)

    @property
    def running(self) -> bool:
        return self.child.running

    @property
    def next(self) -> float:
        """When step() has something to do again, whatever happens."""
        due = self._escalation.next if self._escalation else None
        return min(self._next_look, due) if due is not None else self._next_look

    def state(self, now: float) -> State:
        return self.delivery.state(now, stall=self._limits.stall)

    def step(self, now: float) -> None:
        """Look, judge, act; early is no harm."""
        if now >= self._next_look:
            self._look(now)
        self._judge(now)
        if self._escalation:
            for number in self._escalation.take(now):
                self.child.signal(number)

    def end(self, now: float, reason: End) -> None:
        """Ask ffmpeg to end; step() insists."""
        if self.end_reason is not None:
            return
        self.end_reason = reason
        first = NO_GRACE if self.state(now) is State.STALLED else self._limits.stop_first
        self._escalation = Escalation(now, first=first, second=self._limits.stop_second)

    def finish(self) -> None:
        """Of one that runs no more: read what it left and let go of it."""
        self._read_progress()
        self._read_output()
        for line in self._lines.end():
            self._hear(line)
        for fd in (self.child.progress, self.child.output):
            self._events.remove(fd)
        self._watch.close()
        self.child.close()

    def failure(self) -> Failure | None:
        """Why it failed, once it has ended; None where it was meant to end."""
        match self.end_reason:
            case End.ASKED | End.ROLL:
                return None
            case End.SILENT | End.STALLED:
                return self.diagnosis
        delivered = self.delivery.first_at is not None
        return explain(self._evidence, self.child.exit_code or 0, delivered=delivered)

    def _look(self, now: float) -> None:
        try:
            connection = self._watch.read()
        except Unreadable as error:
            if not self._blind:
                self._blind = True
                self._log(f"encoder: {error}")
            connection = None
        if connection is not None:
            self.delivery.observe(now, connection)
        self._next_look = now + self._patience(now)

    def _patience(self, now: float) -> float:
        if self.delivery.first_at is not None:
            return FLOWING
        return EAGER if now - self.delivery.began < EAGER_FOR else WAITING

    def _judge(self, now: float) -> None:
        delivery, limits = self.delivery, self._limits
        if self.end_reason is not None:
            return
        if delivery.last_at is None or delivery.moving is None or delivery.connection is None:
            if now - delivery.began >= limits.connect:
                threads = self.child.threads()
                self.diagnosis = explain_silence(self._evidence, delivery.connection, threads=threads)
                self.end(now, End.SILENT)
            return
        still = now - delivery.last_at
        given_up = still >= limits.give_up
        if still < limits.stall:
            self.diagnosis = None
        elif self.diagnosis is None or given_up:
            # Not at every look: a thread's state changes by the moment, and each change would be news.
            self.diagnosis = explain_stall(
                delivery.moving, delivery.connection, seconds=still, threads=self.child.threads()
            )
        if given_up:
            self.end(now, End.STALLED)
        elif max(self.progress.seconds, now - delivery.began) >= limits.roll:
            self.end(now, End.ROLL)

    def _read_progress(self) -> None:
        for progress in self._blocks.feed(self._read(self.child.progress)):
            self.progress = progress
            now = self._clock()
            self._look(now)
            self.delivery.handed_over(now, seconds=progress.seconds, frames=progress.frames)

    def _read_output(self) -> None:
        for line in self._lines.feed(self._read(self.child.output)):
            self._hear(line)

    def _hear(self, line: str) -> None:
        if self._evidence.read(line):
            self._log(line)

    def _read(self, fd: int) -> bytes:
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            self._events.remove(fd)
        return data
