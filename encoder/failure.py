"""Why an attempt failed: from ffmpeg's words, its exit code and the kernel's counters. Pure.

ffmpeg exits with 256 - errno, so the code alone tells little: 251 (EIO) is a
name that does not resolve, a refused certificate, an unknown app, a rejected key
and a broken disk; 255 is a stop, and EPERM, an ingest's "Already publishing".
How far the conversation came tells them apart.
"""

import errno
from collections import deque
from collections.abc import Set
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from encoder.exits import NOT_STARTED
from encoder.report import Cause
from encoder.tcp import Connection

#: Complaints this far back still belong to the failure; warnings of hours ago do not.
REMEMBERED: Final = 24

_CHAT: Final = frozenset({"info", "verbose", "debug"})

#: A peer that kept its window shut for this share of a stall is the one that is slow.
PEER_SHARE: Final = 0.5


class Phase(IntEnum):
    """How far one run of ffmpeg came."""

    SOURCE = 0
    REACHING = 1
    CONNECTED = 2
    #: TLS is up; the RTMP handshake runs.
    HANDSHAKE = 3
    #: `connect` sent: the app is being asked for.
    APP = 4
    #: The key is being announced.
    KEY = 5
    PUBLISHING = 6


@dataclass(frozen=True, slots=True)
class Failure:
    """What to tell the user; the sentence never quotes ffmpeg, so it never holds the key."""

    cause: Cause
    detail: str


#: What ffmpeg says on entering a phase, at its debug level.
_LANDMARKS: Final = (
    ("[debug] Opening an output file", Phase.REACHING),
    ("[verbose] Successfully connected to", Phase.CONNECTED),
    ("[debug] Handshaking...", Phase.HANDSHAKE),
    ("[debug] Proto = rtmp", Phase.APP),
    ("[debug] Releasing stream...", Phase.KEY),
    ("[info] Output #0", Phase.PUBLISHING),
)

_UNTRUSTED = Failure(Cause.REMOTE_REFUSED, "The server's certificate is not one to trust.")
_INSECURE = Failure(Cause.REMOTE_REFUSED, "The server did not agree on a secure connection.")
_NAMELESS = Failure(Cause.NETWORK, "The server's name could not be found.")
_UNREACHED = Failure(Cause.NETWORK, "The server could not be reached.")
_BROKEN = Failure(Cause.NETWORK, "The connection to the server broke.")
_REFUSED = Failure(Cause.REMOTE_REFUSED, "The server refused the connection.")
_HUNG_UP = Failure(Cause.REMOTE_REFUSED, "The server closed the connection at once.")
_NO_RTMP = Failure(Cause.REMOTE_REFUSED, "The server did not complete the RTMP handshake.")
_APP_REFUSED = Failure(Cause.REMOTE_REFUSED, "The server refused the application in the address.")
_KEY = Failure(Cause.KEY_REJECTED, "The server rejected the stream key.")
_KEY_BUSY = Failure(Cause.KEY_REJECTED, "Someone else is already publishing with this stream key.")
_SILENT = Failure(Cause.STALLED, "The server took the connection and did not answer.")
_FILELESS = Failure(Cause.SOURCE, "The media file was not found.")
_LOCKED = Failure(Cause.SOURCE, "The media file may not be read.")
_NO_VIDEO = Failure(Cause.SOURCE, "The media file holds no video.")
_NO_MEDIA = Failure(Cause.SOURCE, "The media file is not an MP4 video, or damaged.")
_CODEC = Failure(Cause.SOURCE, "The media file's codecs cannot be streamed over RTMP.")
_DISK = Failure(Cause.SOURCE, "The media file could not be read any further.")
_SHORT = Failure(Cause.SOURCE, "The media file ended although it should repeat.")
_CRASHED = Failure(Cause.SOURCE, "ffmpeg crashed on this media file.")
_STARVED = Failure(Cause.CPU, "The host does not give the encoder enough processor time.")
UNSTARTED: Final = Failure(Cause.CPU, "The host could not start ffmpeg.")
_KILLED = Failure(Cause.CPU, "The host ended the encoder, perhaps for want of memory.")
_SLOW = Failure(Cause.REMOTE_SLOW, "The server reads more slowly than the media plays.")
_UNANSWERED = Failure(Cause.NETWORK, "The server's acknowledgements stopped coming.")
_STALLED = Failure(Cause.STALLED, "Connected, but nothing is being sent.")

#: The first complaint of a phase that fits. ffmpeg goes from the particular to the general.
_COMPLAINTS: Final[dict[Phase, tuple[tuple[str, Failure], ...]]] = {
    Phase.SOURCE: (
        ("No such file or directory", _FILELESS),
        ("Permission denied", _LOCKED),
        ("Input/output error", _DISK),
        ("matches no streams", _NO_VIDEO),
    ),
    Phase.REACHING: (
        ("matches no streams", _NO_VIDEO),
        ("Failed to resolve hostname", _NAMELESS),
        ("Connection refused", _REFUSED),
    ),
    Phase.CONNECTED: (
        ("certificate verify failed", _UNTRUSTED),
        ("[tls ", _INSECURE),
    ),
    Phase.KEY: (
        ("Already publishing", _KEY_BUSY),
        ("Could not write header", _CODEC),
        ("incompatible with", _CODEC),
        ("not compatible with", _CODEC),
    ),
    Phase.PUBLISHING: (
        ("Error during demuxing", _DISK),
        ("Seek to start failed", _DISK),
    ),
}

#: What a phase means where no complaint was plain enough.
_BY_PHASE: Final = {
    Phase.SOURCE: _NO_MEDIA,
    Phase.REACHING: _UNREACHED,
    Phase.CONNECTED: _HUNG_UP,
    Phase.HANDSHAKE: _NO_RTMP,
    Phase.APP: _APP_REFUSED,
    Phase.KEY: _KEY,
    Phase.PUBLISHING: _BROKEN,
}


class Evidence:
    """What ffmpeg said of one run; fed with every line of it, scrubbed."""

    def __init__(self) -> None:
        self.phase = Phase.SOURCE
        self._complaints: deque[str] = deque(maxlen=REMEMBERED)

    def read(self, line: str) -> bool:
        """Whether the line is a complaint, fit for the log."""
        for words, phase in _LANDMARKS:
            if phase > self.phase and words in line:
                self.phase = phase
        if is_complaint(line):
            self._complaints.append(line)
            return True
        return False

    def verdict(self) -> Failure | None:
        """The first complaint that speaks for itself."""
        known = _COMPLAINTS.get(self.phase, ())
        for line in self._complaints:
            for words, failure in known:
                if words in line:
                    return failure
        return None


def is_complaint(line: str) -> bool:
    """A line of level warning or above, or of none: the rare words outside ffmpeg's own logger."""
    first, _, rest = line.partition("] ")
    if " @ 0x" in first:
        first = rest.partition("] ")[0]
    return first.strip("[]") not in _CHAT


def explain(evidence: Evidence, exit_code: int, *, delivered: bool) -> Failure:
    """Of an attempt that ended by itself; exit_code is negative for a signal."""
    if exit_code < 0:
        return _KILLED if exit_code in (-9, -15) else _CRASHED
    if exit_code == 0:
        return _SHORT
    if exit_code == NOT_STARTED:
        return UNSTARTED
    if known := evidence.verdict():
        return known
    code = 256 - exit_code
    if code == errno.ENOMEM:
        return _KILLED
    if code == errno.ETIMEDOUT and Phase.CONNECTED <= evidence.phase < Phase.PUBLISHING:
        return _SILENT
    if evidence.phase is Phase.PUBLISHING and not delivered and code in (errno.EPIPE, errno.ECONNRESET):
        # Accepted, and closed before a byte of media was taken.
        return _KEY
    return _BY_PHASE[evidence.phase]


def explain_silence(evidence: Evidence, connection: Connection | None, *, threads: Set[str]) -> Failure:
    """Of an attempt that brought no media across in its time."""
    if evidence.phase <= Phase.REACHING:
        return _UNREACHED
    if evidence.phase is Phase.PUBLISHING and connection and not connection.queued:
        return _explain_idleness(threads)
    return _SILENT


def explain_stall(before: Connection, now: Connection, *, seconds: float, threads: Set[str]) -> Failure:
    """Of a connection that carried media and has stood still for so long.

    `before` is the connection when it last moved, `threads` the scheduler states
    of ffmpeg's threads (as in /proc/<pid>/stat).
    """
    if not now.queued:
        return _explain_idleness(threads)
    if now.peer_limited - before.peer_limited >= PEER_SHARE * seconds:
        return _SLOW
    return _UNANSWERED


def _explain_idleness(threads: Set[str]) -> Failure:
    """Nothing waits to be sent: it is ffmpeg that stands still."""
    if "D" in threads:
        return _DISK
    if threads & {"R", "T"}:
        return _STARVED
    return _STALLED
