"""The job: everything one encoder needs to know, in one JSON object.

It carries the stream key, so it travels by standard input or by a secret file
and never by argv, environment, labels or logs.

Named tuples, because everything imported before ffmpeg is started delays the
stream: dataclasses, with the inspect it imports, by 10 of 39 ms.
"""

import json
from typing import Any, Final, NamedTuple

VERSION: Final = 1

#: The only demuxer ffmpeg may use. A whitelist by *format* is what stops a
#: playlist disguised as .mp4 from reading other files; a protocol whitelist
#: does not (measured with ffconcat and HLS texts).
FORMAT_WHITELIST: Final = "mov,mp4,m4a,3gp,3g2,mj2"

SCHEMES: Final = ("rtmp://", "rtmps://")


class InvalidJob(ValueError):
    """The job is not one this encoder understands; the text names the field."""


class Limits(NamedTuple):
    """The encoder's own patience, all in seconds unless named otherwise."""

    #: No new acknowledged byte for this long while connected: stalled.
    stall: float = 8.0
    #: A stall this long ends the attempt; ffmpeg alone never would.
    give_up: float = 20.0
    #: No media byte acknowledged this long after an attempt began: give it up.
    connect: float = 20.0
    backoff_first: float = 1.0
    backoff_max: float = 60.0
    #: Share of the delay drawn at random, so a herd does not reconnect at once.
    jitter: float = 0.3
    #: A connection this long healthy resets the backoff.
    healthy: float = 120.0
    #: Attempts in a row without a single media byte before giving up for good.
    barren_attempts: int = 5
    #: FLV timestamps wrap at 2**31 ms = 24.855 days; a new attempt begins before.
    roll: float = 20 * 86400.0
    #: Grace between the first SIGTERM, the second, and SIGKILL.
    stop_first: float = 3.0
    stop_second: float = 2.0


class Job(NamedTuple):
    """One session's marching orders."""

    session_id: str
    generation: int
    #: Absolute path of the media file as this encoder sees it.
    source: str
    #: rtmp(s)://host[:port]/app, without the key.
    destination: str
    stream_key: str
    limits: Limits = Limits()

    def __repr__(self) -> str:
        """Without the key."""
        return f"Job(session_id={self.session_id!r}, generation={self.generation!r})"

    def to_json(self) -> str:
        """One line of JSON, key included: for the job's own channel only."""
        record = {"version": VERSION, **self._asdict(), "limits": self.limits._asdict()}
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Raises InvalidJob for anything but a whole job of this version."""
        try:
            record: dict[str, Any] = json.loads(text)
        except ValueError:
            # The text may hold the key: say nothing of it.
            raise InvalidJob("the job is not JSON") from None
        if not isinstance(record, dict) or record.pop("version", None) != VERSION:
            raise InvalidJob(f"the job is not of version {VERSION}")
        limits = record.pop("limits", {})
        if not isinstance(limits, dict):
            raise InvalidJob("limits: must be an object")
        for given, known in ((record, cls), (limits, Limits)):
            if unknown := set(given).difference(known._fields):
                raise InvalidJob(f"unknown field: {min(unknown)}")
        try:
            job = cls(**record, limits=Limits(**limits))
        except TypeError:
            raise InvalidJob("the job lacks a field") from None
        _check(job)
        return job


def _check(job: Job) -> None:
    """What reaches ffmpeg's argv is of the form it must have, whoever wrote the job."""
    for name in ("session_id", "source", "destination", "stream_key"):
        value = getattr(job, name)
        if not isinstance(value, str) or not value or not value.isprintable():
            raise InvalidJob(f"{name}: must be a line of text")
    if not isinstance(job.generation, int):
        raise InvalidJob("generation: must be a whole number")
    if not job.source.startswith("/"):
        raise InvalidJob("source: must be an absolute path")
    if not job.destination.startswith(SCHEMES):
        raise InvalidJob("destination: must begin with rtmp:// or rtmps://")
    for name, value in job.limits._asdict().items():
        if not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InvalidJob(f"limits.{name}: must be a number and not negative")
