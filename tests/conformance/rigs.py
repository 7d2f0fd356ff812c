"""What the runtime suite needs of each engine: the same destinations, the same accidents."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid4

import psutil

from cli.suite.media import ffmpeg
from cli.suite.sink import Mode, Sink
from encoder.job import Limits
from services.chassis.clock import SystemClock
from services.streams.runtime import Container, Launch, Runtime, memory
from services.streams.runtime.docker import DockerConfig, DockerRuntime
from services.streams.runtime.memory import MemoryRuntime
from services.streams.runtime.process import ProcessConfig, ProcessRuntime
from tests.support.engine import CuttableEngine, DockerEngine

__all__ = ["CANARY", "LIMITS", "DockerRig", "Fate", "MemoryRig", "ProcessRig", "Rig"]

#: Part of every stream key of this suite: found anywhere, it is a leak.
CANARY: Final = "canary-5f1c"
#: Impatient, so that failures take seconds.
LIMITS: Final = Limits(
    stall=1.5,
    give_up=3.0,
    connect=4.0,
    backoff_first=0.1,
    backoff_max=0.2,
    barren_attempts=2,
    stop_first=1.0,
    stop_second=1.0,
)


class Fate(StrEnum):
    """What becomes of an encoder."""

    DELIVERS = "delivers"
    #: Every attempt is turned away, until it gives up for good.
    REFUSED = "refused"
    #: The server takes some media and then reads no more.
    STALLS = "stalls"
    #: The file is no video.
    UNREADABLE = "unreadable"


class Rig(Protocol):
    """One engine under test."""

    def open(self, *, owner: str | None = None) -> Runtime:
        """A runtime on the engine, as of a control plane that has just started.

        With an owner given, of another deployment on the same engine.
        """
        ...

    async def order(self, fate: Fate, *, session_id: UUID | None = None, generation: int = 1) -> Launch: ...

    async def cut(self) -> None:
        """The engine is away; what runs in it goes on."""
        ...

    async def heal(self) -> None: ...

    async def kill(self, container: Container) -> None:
        """The encoder dies from outside, without a last word."""
        ...

    def traces(self, container: Container) -> Mapping[str, bytes]:
        """Everything an operator could look at, by what it is; no key may be in it."""
        ...

    def publishers(self, order: Launch) -> int:
        """How many are connected at the order's destination now."""
        ...

    async def unpublished(self, order: Launch) -> None:
        """Once none is."""
        ...

    def runs(self, order: Launch) -> bool:
        """Whether any program lives that could publish with the order's key."""
        ...


class MemoryRig:
    def __init__(self) -> None:
        self._engine = memory.Engine(SystemClock(), stop_takes=0.05)
        self._engine.behave("rtmp://refuses/live", memory.Refuses(connect=0.1))
        self._engine.behave("rtmp://stalls/live", memory.Stalls(connect=0.1, after=0.3))
        self._engine.behave("rtmp://unreadable/live", memory.Unreadable())

    def open(self, *, owner: str | None = None) -> Runtime:
        return MemoryRuntime(self._engine, owner=owner or "tests")

    async def order(self, fate: Fate, *, session_id: UUID | None = None, generation: int = 1) -> Launch:
        return _order(f"rtmp://{_HOSTS[fate]}/live", Path("/media"), "loop.mp4", session_id, generation)

    async def cut(self) -> None:
        self._engine.down()

    async def heal(self) -> None:
        self._engine.up()

    async def kill(self, container: Container) -> None:
        self._engine.kill(container.id)

    def traces(self, container: Container) -> Mapping[str, bytes]:
        return {}

    def publishers(self, order: Launch) -> int:
        return self._engine.publishers(order.destination, order.stream_key)

    async def unpublished(self, order: Launch) -> None:
        assert not self.publishers(order)

    def runs(self, order: Launch) -> bool:
        return bool(self.publishers(order))


_HOSTS: Final = {
    Fate.DELIVERS: "delivers",
    Fate.REFUSED: "refuses",
    Fate.STALLS: "stalls",
    Fate.UNREADABLE: "unreadable",
}


class _RealRig:
    """Real encoders, real ffmpeg, a sink that misbehaves by stream key."""

    def __init__(self, sink: Sink, media: Path) -> None:
        self._sink = sink
        self._media = media

    async def order(self, fate: Fate, *, session_id: UUID | None = None, generation: int = 1) -> Launch:
        source = "text.mp4" if fate is Fate.UNREADABLE else "loop.mp4"
        order = _order(self._sink.url(), self._media, source, session_id, generation)
        if fate is Fate.REFUSED:
            await self._sink.behave(Mode.REJECT_KEY, order.stream_key)
        if fate is Fate.STALLS:
            await self._sink.behave(Mode.FREEZE, order.stream_key)
        return order

    def publishers(self, order: Launch) -> int:
        return int(self._sink.key(order.stream_key).publisher is not None)

    async def unpublished(self, order: Launch) -> None:
        await self._sink.gone(order.stream_key)

    def runs(self, order: Launch) -> bool:
        # ffmpeg has the key in its argv, in a container too.
        command_lines = (one.info["cmdline"] or [] for one in psutil.process_iter(["cmdline"]))
        return any(order.stream_key in words for words in command_lines)


class ProcessRig(_RealRig):
    def __init__(self, sink: Sink, media: Path, folder: Path) -> None:
        super().__init__(sink, media)
        self._folder = folder / "state"
        self._other = folder / "other"

    def open(self, *, owner: str | None = None) -> Runtime:
        folder = self._folder if owner is None else self._other
        return ProcessRuntime(ProcessConfig(folder=folder, ffmpeg=Path(ffmpeg())))

    async def cut(self) -> None:
        self._folder.rename(self._folder.with_name("away"))

    async def heal(self) -> None:
        self._folder.with_name("away").rename(self._folder)

    async def kill(self, container: Container) -> None:
        self._encoder(container).kill()

    def traces(self, container: Container) -> Mapping[str, bytes]:
        home = self._folder / container.id
        return {str(path): path.read_bytes() for path in home.iterdir()} | _traces_of_processes(
            [self._encoder(container).pid]
        )

    def _encoder(self, container: Container) -> psutil.Process:
        record = json.loads((self._folder / container.id / "encoder.json").read_bytes())
        return psutil.Process(record["process"]["pid"])


class DockerRig(_RealRig):
    def __init__(
        self, sink: Sink, media: Path, engine: DockerEngine, proxy: CuttableEngine, image: str
    ) -> None:
        super().__init__(sink, media)
        self._engine = engine
        self._proxy = proxy
        self._image = image

    def open(self, *, owner: str | None = None) -> Runtime:
        return DockerRuntime(
            DockerConfig(image=self._image, owner=owner or self._engine.owner, host=self._proxy.host)
        )

    async def cut(self) -> None:
        await self._proxy.cut()

    async def heal(self) -> None:
        await self._proxy.heal()

    async def kill(self, container: Container) -> None:
        await asyncio.to_thread(self._engine.client.kill, container.id)

    def traces(self, container: Container) -> Mapping[str, bytes]:
        client = self._engine.client
        found = client.inspect_container(container.id)
        return {
            "inspection": repr(found).encode(),
            "list": repr(client.containers(all=True, filters={"id": container.id})).encode(),
            "output": client.logs(container.id),
            "log file": _readable(Path(found["LogPath"])),
        } | _traces_of_processes([found["State"]["Pid"]])


def _traces_of_processes(pids: Sequence[int]) -> dict[str, bytes]:
    """Of these and their children. ffmpeg's own argv is the one place a key may be."""
    found: dict[str, bytes] = {}
    for one in [*map(psutil.Process, pids), *(c for p in pids for c in psutil.Process(p).children(True))]:
        found[f"environment of {one.name()}"] = _readable(Path(f"/proc/{one.pid}/environ"))
        if not one.name().startswith("ffmpeg"):
            found[f"argv of {one.name()}"] = Path(f"/proc/{one.pid}/cmdline").read_bytes()
    return found


def _readable(path: Path) -> bytes:
    """Nothing where only root may look."""
    return path.read_bytes() if os.access(path, os.R_OK) else b""


def _order(destination: str, media: Path, source: str, session_id: UUID | None, generation: int) -> Launch:
    session_id = session_id or uuid4()
    return Launch(
        session_id=session_id,
        generation=generation,
        media_folder=media,
        source=source,
        destination=destination,
        stream_key=f"{CANARY}-{uuid4()}",
        limits=LIMITS,
    )
