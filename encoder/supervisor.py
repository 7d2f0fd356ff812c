"""The supervisor: attempts one after another, until told to stop or out of hope."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from encoder.attempt import Attempt, End
from encoder.backoff import Backoff
from encoder.child import Child
from encoder.events import WRITE, Events, Stop
from encoder.exits import ExitCode
from encoder.failure import UNSTARTED, Failure
from encoder.job import Job
from encoder.lines import FloodGuard
from encoder.outlet import Outlet
from encoder.report import LogLine, Report, State

#: A report at least this often, seconds: the heartbeat.
HEARTBEAT: Final = 1.0
#: How long the last line may take to be written, seconds.
FAREWELL: Final = 1.0


@dataclass(slots=True)
class Totals:
    """What all attempts delivered that have ended."""

    seconds: float = 0.0
    acknowledged: int = 0
    #: Unix times.
    first_media_at: float | None = None
    last_media_at: float | None = None


class Supervisor:
    """Keeps one job's stream alive and says how it goes."""

    def __init__(
        self, job: Job, *, spawn: Callable[[], Child], events: Events, stop: Stop, outlet: Outlet
    ) -> None:
        """`spawn` starts an ffmpeg on the job; it raises OSError if the host cannot."""
        self._job = job
        self._spawn = spawn
        self._events = events
        self._stop = stop
        self._outlet = outlet
        self._backoff = Backoff(job.limits)
        self._flood = FloodGuard()
        self._totals = Totals()
        self._number = 0
        self._attempt: Attempt | None = None
        self._failure: Failure | None = None
        self._idle_state = State.CONNECTING
        self._retry_at: float | None = None
        #: What the latest report said, counters apart, and when the next is due at the latest.
        self._told: tuple[object, ...] = ()
        self._next_report = 0.0

    def run(self) -> ExitCode:
        """Returns when ffmpeg is gone and the last report written."""
        code = ExitCode.STOPPED
        while True:
            # Even if asked to stop by now: the first ffmpeg runs already and has to be ended.
            ended = self._run_attempt()
            if self._stop.asked:
                break
            if ended is not None and ended.end_reason is End.ROLL:
                continue
            delay = self._backoff.failed(delivering=ended.delivery.delivering if ended else None)
            if delay is None:
                code = ExitCode.GAVE_UP
                break
            self._pause(delay)
            if self._stop.asked:
                break
        if code is ExitCode.STOPPED:
            self._failure = None
        self._idle_state, self._retry_at = State.ENDED, None
        self._say(time.monotonic())
        self._farewell()
        return code

    def _run_attempt(self) -> Attempt | None:
        """One attempt from start to end; None where ffmpeg could not even be started."""
        self._number += 1
        self._idle_state, self._retry_at = State.CONNECTING, None
        try:
            attempt = Attempt(
                self._job,
                spawn=self._spawn,
                events=self._events,
                log=self._log,
                clock=time.monotonic,
            )
        except OSError as error:
            self._log(f"encoder: ffmpeg could not be started: {error.strerror}")
            self._failure = UNSTARTED
            return None
        self._attempt = attempt
        while attempt.running:
            now = time.monotonic()
            if self._stop.asked:
                attempt.end(now, End.ASKED)
            attempt.step(now)
            self._note(attempt, now)
            self._say(now)
            self._wait(attempt.next)
        attempt.finish()
        self._failure = attempt.failure() or self._failure
        self._close_account(attempt)
        return attempt

    def _note(self, attempt: Attempt, now: float) -> None:
        """Take over what the attempt shows."""
        state = attempt.state(now)
        if state is State.DELIVERING:
            self._failure = None
        elif state is State.STALLED:
            self._failure = attempt.diagnosis
        first, last = attempt.delivery.first_at, attempt.delivery.last_at
        if first is not None and last is not None:
            # From the steady clock to the calendar's, now: the calendar's may be set meanwhile.
            self._totals.first_media_at = self._totals.first_media_at or time.time() - (now - first)
            self._totals.last_media_at = time.time() - (now - last)

    def _close_account(self, attempt: Attempt) -> None:
        self._totals.seconds += attempt.delivery.seconds
        self._totals.acknowledged += attempt.delivery.acknowledged
        self._attempt = None

    def _pause(self, delay: float) -> None:
        until = time.monotonic() + delay
        self._idle_state, self._retry_at = State.BACKOFF, time.time() + delay
        while not self._stop.asked and (now := time.monotonic()) < until:
            self._say(now)
            self._wait(until)

    def _wait(self, until: float) -> None:
        if self._outlet.blocked:
            self._events.add(self._outlet.fd, self._unblocked, WRITE)
        self._events.wait(min(until, self._next_report) - time.monotonic())

    def _unblocked(self) -> None:
        self._events.remove(self._outlet.fd)
        self._outlet.flush()

    def _farewell(self) -> None:
        until = time.monotonic() + FAREWELL
        while self._outlet.blocked and (now := time.monotonic()) < until:
            self._events.add(self._outlet.fd, self._unblocked, WRITE)
            self._events.wait(until - now)

    def _log(self, text: str) -> None:
        for line in self._flood.admit(time.monotonic(), text):
            self._outlet.log(LogLine(at=time.time(), attempt=self._number, text=line))

    def _say(self, now: float) -> None:
        """A report if there is news, or if the last is a heartbeat ago."""
        state = self._attempt.state(now) if self._attempt else self._idle_state
        news = (state, self._number, self._failure)
        if news == self._told and now < self._next_report:
            return
        self._told, self._next_report = news, now + HEARTBEAT
        self._outlet.report(self._snapshot(state))

    def _snapshot(self, state: State) -> Report:
        attempt, totals, failure = self._attempt, self._totals, self._failure
        delivery = attempt.delivery if attempt else None
        connection = delivery.connection if delivery else None
        return Report(
            at=time.time(),
            attempt=self._number,
            state=state,
            cause=failure.cause if failure else None,
            detail=failure.detail if failure else "",
            first_media_at=totals.first_media_at,
            last_media_at=totals.last_media_at,
            delivered_seconds=round(totals.seconds + (delivery.seconds if delivery else 0.0), 3),
            acknowledged_bytes=totals.acknowledged + (delivery.acknowledged if delivery else 0),
            bitrate_kbps=round(delivery.bitrate_kbps, 1) if delivery else 0.0,
            fps=round(delivery.fps, 1) if delivery else 0.0,
            dropped_frames=attempt.progress.dropped_frames if attempt else 0,
            round_trip_ms=connection.round_trip_ms if connection else 0.0,
            retransmits=connection.retransmits if connection else 0,
            retry_at=self._retry_at,
        )
