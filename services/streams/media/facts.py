"""What the worker says of one file: facts, not a verdict, as one JSON message.

The worker parses what strangers upload, so its answer is read like a stranger's:
every field checked, and an odd one is a `Malformed` answer.
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final, Self

__all__ = ["ANSWER_MAX", "READY", "STREAMS_MAX", "Answer", "Facts", "Malformed", "Stream", "Unreadable"]

#: The worker's first message.
READY: Final = b"ready"
#: Of the streams of a file only so many are told of.
STREAMS_MAX: Final = 32
#: An answer in bytes, at most: 32 streams at some 250 bytes.
ANSWER_MAX: Final = 32768

_CODEC: Final = re.compile(r"[a-z0-9_]{1,32}")


class Malformed(ValueError):
    """The answer is not one the worker would give."""


class Unreadable(StrEnum):
    """Why a file could not be opened as MP4."""

    #: Text that names other files: an HLS or ffconcat playlist.
    PLAYLIST = "playlist"
    #: An MP4 that lacks its index, usually because it was cut off.
    CUT = "cut"
    #: Anything else.
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream of the file."""

    #: "video", "audio", "subtitle", "data" ...; "cover" for a picture attached to a sound file.
    kind: str
    #: libav's name of the codec; "unknown" to it.
    codec: str
    width: int = 0
    height: int = 0
    #: Frames per second on average; 0 when unknown.
    fps: float = 0.0
    #: Samples per second.
    rate: int = 0
    channels: int = 0
    #: Entries in the file's index.
    packets: int = 0
    #: Where in the file the last of them ends.
    end: int = 0
    #: The packets need a key.
    encrypted: bool = False

    def __post_init__(self) -> None:
        if not (_CODEC.fullmatch(self.kind) and _CODEC.fullmatch(self.codec)):
            raise Malformed("a stream's kind or codec is no name")
        counts = (self.width, self.height, self.rate, self.channels, self.packets, self.end)
        if not all(map(_count, counts)) or type(self.encrypted) is not bool:
            raise Malformed("a stream's number is none")
        if type(self.fps) is not float or not math.isfinite(self.fps) or self.fps < 0:
            raise Malformed("a stream's rate is none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the file's header says."""

    #: Microseconds; 0 when it does not say.
    duration: int
    streams: tuple[Stream, ...]

    def __post_init__(self) -> None:
        if not _count(self.duration):
            raise Malformed("the duration is no number")


@dataclass(frozen=True, slots=True)
class Answer:
    """The worker's message about one file."""

    of: Facts | Unreadable
    #: The worker ends after this answer; it has used its share of CPU time.
    last: bool = False

    def to_message(self) -> bytes:
        of = self.of if isinstance(self.of, Unreadable) else asdict(self.of)
        return json.dumps({"of": of, "last": self.last}, separators=(",", ":")).encode()

    @classmethod
    def from_message(cls, message: bytes) -> Self:
        """Raises Malformed."""
        try:
            record: dict[str, Any] = json.loads(message)
            of, last = record["of"], record["last"]
            if type(last) is not bool:
                raise Malformed("the answer is neither last nor not")
            if isinstance(of, str):
                return cls(Unreadable(of), last)
            streams = tuple(Stream(**one) for one in of.pop("streams"))
            return cls(Facts(**of, streams=streams), last)
        except Malformed:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Malformed("the answer is no answer") from error


def _count(number: object) -> bool:
    return type(number) is int and number >= 0
