"""A verdict on a media file: what will be sent, or why it cannot be.

libav parses what strangers upload, so it does that in a process of its own (see
`worker`), which answers with facts; the verdict on them is pure. A new process
per file would cost each StartStream a quarter of a second, the resident one costs
milliseconds, and a verdict that is known microseconds.
"""

import asyncio
import logging
import os
from collections import OrderedDict
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from services.chassis.clock import Clock, SystemClock
from services.chassis.errors import InvalidField, Unavailable
from services.streams.media.examiner import Broken, Examiner
from services.streams.media.facts import Facts, Stream, Unreadable
from services.streams.media.library import Identity, MediaFile

__all__ = ["Audio", "Limits", "Probe", "Prober", "Video", "judge"]

_log = logging.getLogger(__name__)

MICROSECONDS: Final = 1_000_000

#: Sample rates that FLV can carry MP3 at; ffmpeg refuses others at the header.
MP3_RATES: Final = (11025, 22050, 44100, 48000)

_UNREADABLE: Final = {
    Unreadable.PLAYLIST: "is a playlist under another name, not a video; upload the video itself",
    Unreadable.CUT: "is cut off, damaged or too complex: its index cannot be read; upload it again, whole",
    Unreadable.FOREIGN: "is not an MP4 or MOV video; convert it to MP4 with H.264 and AAC",
}
_UNFIT: Final = (
    "could not be examined, which breaks off or takes too long; encode it again as MP4 with H.264 and AAC"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """The video that will be sent."""

    codec: str
    width: int
    height: int
    #: Frames per second on average; 0 when the file does not say.
    fps: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Audio:
    """The sound that will be sent."""

    codec: str
    #: Samples per second.
    rate: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A file that can be sent as it is, without encoding."""

    #: Seconds of one loop.
    duration: float
    video: Video
    #: None for a silent file: no fault of the file, though YouTube asks for sound.
    audio: Audio | None
    #: Average over the whole file, bits per second.
    bitrate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much one file, and all together, may ask of the prober."""

    #: Seconds one file may take; then its worker is killed.
    patience: float = 15.0
    #: Seconds until a new worker must be ready, on a crowded machine.
    start: float = 30.0
    #: Files being probed or waiting for it; further ones are told to come back.
    queue: int = 64
    #: Verdicts remembered.
    verdicts: int = 4096
    #: For so many seconds a file that broke its worker is not tried again: long
    #: enough that one such file cannot keep the others waiting, short enough to
    #: forgive a file whose worker died of something else.
    quarantine: float = 60.0


@dataclass(frozen=True, slots=True)
class _Verdict:
    #: The probe, or why there is none.
    of: Probe | str
    #: Monotonic seconds; None for one that holds as long as the content.
    until: float | None = None


class Prober:
    """Has files examined, one at a time, and remembers the verdicts.

    Use as an asynchronous context manager; entering starts the worker without
    waiting for it.
    """

    def __init__(self, *, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._examiner = Examiner(patience=self._limits.patience, start=self._limits.start)
        self._verdicts: OrderedDict[Identity, _Verdict] = OrderedDict()
        self._looks: dict[Identity, asyncio.Task[_Verdict]] = {}
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._examiner.warm()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        looks = list(self._looks.values())
        for look in looks:
            look.cancel()
        await asyncio.gather(*looks, return_exceptions=True)
        await self._examiner.close()

    async def probe(self, media: MediaFile) -> Probe:
        """What is in the file, if it can be sent as it is.

        Who asks for a file that is being looked at shares that look, and who goes
        away leaves it to the others. Raises InvalidField on `video_source`, and
        Unavailable when too many files wait or no worker starts.
        """
        verdict = self._recall(media.identity)
        if verdict is None:
            verdict = await asyncio.shield(self._look(media))
        if isinstance(verdict.of, str):
            raise InvalidField.of("video_source", verdict.of)
        return verdict.of

    def _recall(self, identity: Identity) -> _Verdict | None:
        verdict = self._verdicts.get(identity)
        if verdict is None or (verdict.until is not None and verdict.until <= self._clock.monotonic()):
            return None
        self._verdicts.move_to_end(identity)
        return verdict

    def _look(self, media: MediaFile) -> asyncio.Task[_Verdict]:
        look = self._looks.get(media.identity)
        if look is None:
            if len(self._looks) >= self._limits.queue:
                raise Unavailable.of("media worker", private=f"{len(self._looks)} files wait to be probed")
            look = asyncio.create_task(self._examine(media), name="probe")
            self._looks[media.identity] = look
            look.add_done_callback(lambda done: self._looked(media.identity, done))
        return look

    def _looked(self, identity: Identity, look: asyncio.Task[_Verdict]) -> None:
        del self._looks[identity]
        if look.cancelled() or look.exception():
            return
        self._verdicts[identity] = look.result()
        self._verdicts.move_to_end(identity)
        if len(self._verdicts) > self._limits.verdicts:
            self._verdicts.popitem(last=False)

    async def _examine(self, media: MediaFile) -> _Verdict:
        async with self._turn:
            descriptor = media.open()
            try:
                answer = await self._examiner.ask(descriptor)
            except Broken as broken:
                _log.warning("a media file broke its worker", extra={"action": "probe", "why": str(broken)})
                return _Verdict(_UNFIT, until=self._clock.monotonic() + self._limits.quarantine)
            finally:
                os.close(descriptor)
        return _Verdict(judge(answer.of, size=media.size))


def judge(found: Facts | Unreadable, *, size: int) -> Probe | str:
    """The probe, or what is wrong with the file of that many bytes and the remedy.

    What is sent is what ffmpeg is told to take: the first video that is no cover
    picture, and the first sound if there is any.
    """
    if isinstance(found, Unreadable):
        return _UNREADABLE[found]
    video = _first(found, "video")
    audio = _first(found, "audio")
    if video is None:
        return "holds no video; upload an MP4 with a video in it"
    if video.codec != "h264":
        return f"holds video as {video.codec}, which cannot be sent as it is; encode it as H.264"
    if audio is not None and audio.codec not in ("aac", "mp3"):
        return f"holds sound as {audio.codec}, which cannot be sent as it is; encode it as AAC"
    if audio is not None and audio.codec == "mp3" and audio.rate not in MP3_RATES:
        return f"holds MP3 sound at {audio.rate} Hz, which RTMP cannot carry; encode it as AAC"
    sent = [one for one in (video, audio) if one is not None]
    if any(one.encrypted for one in sent):
        return "is encrypted; upload it without copy protection"
    if not (found.duration and video.packets and video.width and video.height):
        return "holds no frame of video to be shown for any time; encode it again"
    if (end := max(one.end for one in sent)) > size:
        return f"is cut off: {end - size} bytes at its end are missing; upload it again, whole"
    return Probe(
        duration=found.duration / MICROSECONDS,
        video=Video(codec=video.codec, width=video.width, height=video.height, fps=video.fps),
        audio=Audio(codec=audio.codec, rate=audio.rate, channels=audio.channels) if audio else None,
        bitrate=size * 8 * MICROSECONDS // found.duration,
    )


def _first(found: Facts, kind: str) -> Stream | None:
    return next((one for one in found.streams if one.kind == kind), None)
