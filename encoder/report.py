"""What the encoder says on standard output: one JSON object per line.

A `Report` is a whole snapshot, never a difference, so the last line alone tells
the truth to a control plane that was away. It is written at every change of
state and once a second, which also makes it the heartbeat. A `LogLine` carries
one line of ffmpeg's own output, the stream key scrubbed.
"""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum


class State(StrEnum):
    """Where one attempt is."""

    #: ffmpeg is being started, or its connection set up.
    CONNECTING = "connecting"
    #: The peer's kernel acknowledged media bytes within the last seconds.
    DELIVERING = "delivering"
    #: Connected, but nothing was acknowledged for `Limits.stall` seconds.
    STALLED = "stalled"
    #: Between two attempts.
    BACKOFF = "backoff"
    #: The last line: stopped as asked (no cause) or given up (cause set).
    ENDED = "ended"


class Cause(StrEnum):
    """Why an attempt failed, as far as it can be told from inside."""

    SOURCE = "source"
    CPU = "cpu"
    NETWORK = "network"
    REMOTE_REFUSED = "remote_refused"
    REMOTE_SLOW = "remote_slow"
    KEY_REJECTED = "key_rejected"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A snapshot of one encoder."""

    #: Unix time, seconds.
    at: float
    #: 1 for the first connection tried.
    attempt: int
    state: State
    #: The latest failure; kept through BACKOFF and CONNECTING until media flows again.
    cause: Cause | None = None
    #: A sentence for the user, without the key.
    detail: str = ""
    #: Unix time of the first acknowledged media byte of this encoder, if any.
    first_media_at: float | None = None
    #: Unix time of the latest acknowledged media byte, if any.
    last_media_at: float | None = None
    #: Media time the peer acknowledged, all attempts together, seconds.
    delivered_seconds: float = 0.0
    #: Bytes the peer acknowledged, all attempts together.
    acknowledged_bytes: int = 0
    #: Acknowledged rate over the last five seconds.
    bitrate_kbps: float = 0.0
    fps: float = 0.0
    dropped_frames: int = 0
    round_trip_ms: float = 0.0
    retransmits: int = 0
    #: Unix time of the next attempt, in BACKOFF.
    retry_at: float | None = None

    def to_line(self) -> str:
        return json.dumps({"report": asdict(self)}, separators=(",", ":"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line of ffmpeg's output."""

    at: float
    attempt: int
    text: str

    def to_line(self) -> str:
        return json.dumps({"log": asdict(self)}, separators=(",", ":"))


def parse(line: str | bytes) -> Report | LogLine | None:
    """The line as what it is; None for a torn or foreign one."""
    try:
        match json.loads(line):
            case {"report": dict(record)}:
                cause = record.pop("cause", None)
                return Report(
                    **{**record, "state": State(record["state"])},
                    cause=Cause(cause) if cause else None,
                )
            case {"log": dict(record)}:
                return LogLine(**record)
    except (ValueError, TypeError, KeyError):
        return None
    return None
