"""`control_plane`: what looking after a thousand streams costs, against looking after none."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final
from uuid import UUID

from benchmarks.figure import Quantity, Reading, Sides
from benchmarks.stage.database import cluster, migrated
from benchmarks.stage.plane import Plane, plane
from benchmarks.stage.service import Service, streams
from benchmarks.stage.usage import cpu_seconds, resident_mib
from cli.suite.media import make_sample
from streamax.streams.v1 import stream_service_pb2
from tests.support.database import Cluster, Database

__all__ = ["ControlPlane"]

_NAME: Final = "control_plane"
_SESSIONS: Final = 1000
_USERS: Final = 100
#: Calls under way at once while the sessions are started.
_STARTERS: Final = 16
#: Seconds of a round in which only time passes.
_WINDOW: Final = 10.0
_PASSES: Final = 20
_PATIENCE: Final = 300.0
_DESTINATION: Final = "rtmp://a.rtmp.youtube.com/live2"


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """The leading process with a simulated engine, so that nothing but the control plane is measured."""

    name: str = _NAME
    title: str = f"The control plane with {_SESSIONS:,} streams running"
    ours: str = (
        f"`python -m services streams`, the one leading process, {_SESSIONS} sessions of {_USERS} users "
        "running over the simulated engine, nobody calling; and one pass of the reconciler over them"
    )
    floor: str = "the same with no session"
    rounds: int = 5

    @property
    def quantities(self) -> Sequence[Quantity]:
        return (
            Quantity(name=_NAME, title="Processor time, of one core", unit="%"),
            Quantity(name=f"{_NAME}_memory", title="Resident memory", unit="MiB"),
            Quantity(name=f"{_NAME}_pass", title="One pass of the reconciler", unit="ms"),
        )

    @asynccontextmanager
    async def sides(self) -> AsyncIterator[Sides]:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamax-bench-")))
            folder.chmod(0o711)
            server = await stack.enter_async_context(cluster(folder))
            sample = await make_sample(folder / "sample.mp4", seconds=4)
            busy = await stack.enter_async_context(_side(folder / "busy", server, sample, sessions=_SESSIONS))
            idle = await stack.enter_async_context(_side(folder / "idle", server, sample, sessions=0))
            yield Sides(ours=busy.round, floor=idle.round)


@dataclass(frozen=True, slots=True)
class _Side:
    """A service and a reconciler of our own, both with so many sessions."""

    service: Service
    plane: Plane

    async def round(self) -> Reading:
        pid = self.service.program.pid
        before, begun = cpu_seconds(pid), time.monotonic()
        await asyncio.sleep(_WINDOW)
        used = (cpu_seconds(pid) - before) / (time.monotonic() - begun)
        return {
            _NAME: 100 * used,
            f"{_NAME}_memory": resident_mib(pid),
            f"{_NAME}_pass": 1000 * median([await self.plane.timed_pass() for _ in range(_PASSES)]),
        }


@asynccontextmanager
async def _side(folder: Path, server: Cluster, sample: Path, *, sessions: int) -> AsyncIterator[_Side]:
    folder.mkdir()
    async with (
        migrated(server) as served,
        migrated(server) as planned,
        streams(folder / "streams", served, engine={"simulate": True}) as service,
        plane(planned, users=_USERS, sessions=sessions) as reconciler,
    ):
        await _start(service, sample, sessions)
        await _all_running(served, sessions)
        yield _Side(service, reconciler)


async def _start(service: Service, sample: Path, sessions: int) -> None:
    """Through the front door: what admission leaves behind in memory is part of the figure."""
    users = [await service.user(sample) for _ in range(_USERS)]
    todo = iter(range(sessions))

    async def starter() -> None:
        for number in todo:
            await _start_one(service, users[number % len(users)], number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(_STARTERS):
            tasks.create_task(starter())


async def _start_one(service: Service, user: UUID, number: int) -> None:
    await service.stub.StartStream(
        stream_service_pb2.StartStreamRequest(
            video_source="loop.mp4", rtmp_url=_DESTINATION, stream_key=f"key-{number}"
        ),
        **service.calling(user),
    )


async def _all_running(database: Database, sessions: int) -> None:
    async with asyncio.timeout(_PATIENCE), database.connect() as connection:
        while True:
            if await connection.fetchval(_RUNNING) == sessions:
                return
            await asyncio.sleep(0.2)


_RUNNING: Final = "SELECT count(*) FROM public.stream_sessions WHERE status = 'running'"
