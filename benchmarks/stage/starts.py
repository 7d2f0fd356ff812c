"""Starting a stream and seeing its first bytes arrive: what both start figures do, whatever the engine."""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from benchmarks.figure import Reading
from benchmarks.stage.service import Service
from cli.suite.sink import Sink
from encoder.job import Job
from streamax.streams.v1 import session_pb2, stream_service_pb2

__all__ = ["FIRST_BYTES", "Stage", "Start"]

#: Of media: no handshake or header is that long.
FIRST_BYTES: Final = 20_000
#: Seconds.
_PATIENCE: Final = 60.0
_LOOK: Final = 0.05


@dataclass(frozen=True, slots=True)
class Start:
    """One stream to be started: a file nobody has looked at yet, and a key nobody has used."""

    #: Below the owner's media folder.
    source: str
    key: str


class Stage:
    """A streams service, a sink, a user with a video."""

    def __init__(self, service: Service, sink: Sink, user: UUID, sample: Path) -> None:
        self.service = service
        self.sink = sink
        self.user = user
        self._sample = sample

    @property
    def media(self) -> Path:
        """The user's media folder."""
        return self.service.media / str(self.user)

    def prepare(self) -> Start:
        name = uuid4().hex
        # A copy: of a file that was started before the verdict is known.
        shutil.copyfile(self._sample, self.media / f"{name}.mp4")
        return Start(f"{name}.mp4", f"key-{name}")

    def job(self, start: Start, *, media: str) -> Job:
        """What an encoder would be given for it; `media` is where it sees the media folder."""
        return Job(
            session_id=str(uuid4()),
            generation=1,
            source=f"{media}/{start.source}",
            destination=self.sink.url(),
            stream_key=start.key,
        )

    async def timed(
        self, name: str, start: Start, begin: Callable[[], Awaitable[object]]
    ) -> dict[str, float]:
        """Seconds from `begin` to the first bytes, with those of the steps between."""
        async with asyncio.timeout(_PATIENCE):
            begun = time.monotonic()
            await begin()
            answered = time.monotonic()
            record = await self.sink.received(start.key, FIRST_BYTES)
            ended = time.monotonic()
        publication = record.publications[0]
        assert publication.first_media_at is not None
        return {
            name: ended - begun,
            "begun_s": answered - begun,
            "publishing_s": publication.began_at - begun,
            "first_media_s": publication.first_media_at - begun,
        }

    async def ours(self, name: str, *, meanwhile: Callable[[], Awaitable[None]] | None = None) -> Reading:
        """A stream through the service, stopped again; `meanwhile` is done while it runs."""
        start, session = self.prepare(), session_pb2.Session()

        async def begin() -> None:
            session.CopyFrom(
                await self.service.stub.StartStream(
                    stream_service_pb2.StartStreamRequest(
                        video_source=start.source, rtmp_url=self.sink.url(), stream_key=start.key
                    ),
                    **self.service.calling(self.user),
                )
            )

        reading = await self.timed(name, start, begin)
        if meanwhile is not None:
            await meanwhile()
        await self.stop(session.id)
        return reading

    async def stop(self, session_id: str) -> None:
        """Returns when nothing of it is left to disturb the next one."""
        calling = self.service.calling(self.user)
        await self.service.stub.StopStream(
            stream_service_pb2.StopStreamRequest(session_id=session_id), **calling
        )
        request = stream_service_pb2.GetSessionRequest(session_id=session_id)
        async with asyncio.timeout(_PATIENCE):
            while True:
                session = await self.service.stub.GetSession(request, **calling)
                if session.status == session_pb2.SESSION_STATUS_STOPPED:
                    return
                await asyncio.sleep(_LOOK)
