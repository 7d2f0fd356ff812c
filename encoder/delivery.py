"""What one attempt delivered, from the kernel's counters and ffmpeg's progress. Pure."""

from collections import deque
from typing import Final

from encoder.job import Job
from encoder.report import State
from encoder.tcp import Connection

#: The SYN, C0 and C1 (1537 bytes) and C2 (1536).
HANDSHAKE: Final = 3074
#: connect, releaseStream, FCPublish, createStream and publish without the texts
#: in them: 260 bytes measured. What follows them (metadata, sequence headers) is
#: 410 bytes and does not reach this either; the first picture does.
CHATTER: Final = 1024
#: The key comes three times, the address twice.
TEXTS: Final = 4
#: TLS 1.3 with a post-quantum key share: 2034 bytes measured.
TLS: Final = 3072

WINDOW: Final = 5.0


def allowance(job: Job) -> int:
    """Bytes a peer may acknowledge of a connection before any of it must be media."""
    texts = TEXTS * (len(job.stream_key.encode()) + len(job.destination.encode()))
    return HANDSHAKE + CHATTER + texts + (TLS if job.destination.startswith("rtmps://") else 0)


class Rate:
    """Growth of a counter over the last seconds."""

    def __init__(self, window: float = WINDOW) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        self._samples.append((now, count))
        # One sample older than the window stays: growth is measured from there.
        while len(self._samples) > 2 and self._samples[1][0] <= now - self._window:
            self._samples.popleft()

    def per_second(self) -> float:
        if len(self._samples) < 2:
            return 0.0
        (begun, first), (now, last) = self._samples[0], self._samples[-1]
        # The first burst, spread over less than a second, would be no rate at all.
        return (last - first) / max(1.0, now - begun)


class Delivery:
    """The account of one attempt. Moments are monotonic seconds.

    Progress tells media time as it enters ffmpeg's socket; the kernel tells how
    many bytes entered and how many were acknowledged. Each progress block is a
    milestone (bytes written, media time): media counts as delivered when the
    acknowledged bytes reach its milestone, between two in proportion. Progress
    alone would be ahead by all that waits in the socket: 9 s of media in a stall.
    """

    def __init__(self, *, began: float, allowance: int) -> None:
        self.began = began
        #: Media bytes acknowledged, at least.
        self.acknowledged = 0
        #: Media time acknowledged, seconds.
        self.seconds = 0.0
        self.first_at: float | None = None
        self.last_at: float | None = None
        #: The connection as last seen.
        self.connection: Connection | None = None
        #: The connection when it last got anything through.
        self.moving: Connection | None = None
        self._allowance = allowance
        self._milestones: deque[tuple[int, float]] = deque([(0, 0.0)])
        self._bytes = Rate()
        self._frames = Rate()

    @property
    def bitrate_kbps(self) -> float:
        return self._bytes.per_second() * 8 / 1000

    @property
    def fps(self) -> float:
        return self._frames.per_second()

    @property
    def delivering(self) -> float | None:
        """Seconds from the first acknowledged media byte to the last; None without one."""
        if self.first_at is None or self.last_at is None:
            return None
        return self.last_at - self.first_at

    def observe(self, now: float, connection: Connection) -> None:
        """The kernel's counters of this moment."""
        media = max(self.acknowledged, connection.acknowledged - self._allowance)
        self.connection = connection
        self._bytes.add(now, media)
        if media > self.acknowledged:
            self.acknowledged = media
            self.first_at = self.first_at if self.first_at is not None else now
            self.last_at = now
            self.moving = connection
            self._settle()

    def handed_over(self, now: float, *, seconds: float, frames: int) -> None:
        """ffmpeg's progress of this moment; observe() the connection just before."""
        self._frames.add(now, frames)
        if self.connection is None:
            return
        written = self.connection.written - self._allowance
        last_written, last_seconds = self._milestones[-1]
        if written > last_written and seconds >= last_seconds:
            self._milestones.append((written, seconds))
            self._settle()

    def state(self, now: float, *, stall: float) -> State:
        if self.last_at is None:
            return State.CONNECTING
        return State.STALLED if now - self.last_at >= stall else State.DELIVERING

    def _settle(self) -> None:
        """Pay the acknowledged bytes in media time."""
        while len(self._milestones) > 1 and self._milestones[1][0] <= self.acknowledged:
            self._milestones.popleft()
        written, seconds = self._milestones[0]
        if len(self._milestones) > 1:
            next_written, next_seconds = self._milestones[1]
            share = max(0, self.acknowledged - written) / (next_written - written)
            seconds += share * (next_seconds - seconds)
        self.seconds = max(self.seconds, seconds)
