"""`start_docker`: from StartStream to the first bytes at the destination, one container per stream."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from docker import APIClient

from benchmarks.figure import Bar, NotHere, Quantity, Reading, Sides
from benchmarks.stage.database import cluster, migrated
from benchmarks.stage.service import streams
from benchmarks.stage.starts import FIRST_BYTES, Stage
from cli.suite.engine import DEFAULT_HOST, choose_engine
from cli.suite.media import make_sample
from cli.suite.sink import Sink
from encoder.command import arguments
from encoder.program import Options

__all__ = ["StartDocker"]

_NAME: Final = "start_docker"
_OWNER: Final = "io.streamax.owner"
_MEDIA: Final = "/media"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartDocker:
    """The way of a stream through admission, database, reconciler, engine and supervisor, in seconds."""

    name: str = _NAME
    title: str = "Starting a stream in a container"
    ours: str = (
        "StartStream of `python -m services streams` over the Docker runtime, of a file never seen before: "
        "examined, admitted by the database, launched by the reconciler in a container, supervised there"
    )
    #: Two requests on an open connection: the docker program adds its own start, some 30 ms, to the same two.
    floor: str = (
        "`docker run --detach` as its two requests to the engine: the same image, limits, mounts and user, "
        "with the same ffmpeg and arguments as entry point"
    )
    rounds: int = 15

    @property
    def quantities(self) -> Sequence[Quantity]:
        return (
            Quantity(
                name=_NAME,
                title=f"From the start to {FIRST_BYTES:,} bytes at the destination",
                unit="s",
                bar=Bar(ratio=1.3),
            ),
        )

    @asynccontextmanager
    async def sides(self) -> AsyncIterator[Sides]:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamax-bench-")))
            # In the containers nobody is root, and nobody has to reach the media.
            folder.chmod(0o711)
            chosen = await choose_engine(_host(), folder=folder, tell=_tell)
            if chosen.kind != "docker":
                raise NotHere(f"encoders would be {chosen.runtime}")
            owner = str(chosen.table["owner"])
            engine = stack.enter_context(_engine(owner))
            server = await stack.enter_async_context(cluster(folder))
            database = await stack.enter_async_context(migrated(server))
            sink = await stack.enter_async_context(Sink(chosen.sink_host))
            sample = await make_sample(folder / "sample.mp4")
            service = await stack.enter_async_context(
                streams(
                    folder / "streams",
                    database,
                    engine={
                        "destinations": [f"rtmp://{sink.host}:{sink.port}"],
                        "docker": chosen.table,
                    },
                )
            )
            stage = Stage(service, sink, await service.user(), sample)
            bare = _Bare(engine, stage, await _shape_of_ours(engine, stage, owner), owner)

            async def ours() -> Reading:
                return await stage.ours(_NAME)

            # Image and programs come into the page cache with the first start.
            await ours()
            await bare.run()
            yield Sides(
                ours=ours, floor=bare.run, facts={"engine": f"Docker Engine {engine.version()['Version']}"}
            )


class _Bare:
    """ffmpeg in containers without us."""

    def __init__(self, engine: APIClient, stage: Stage, shape: Mapping[str, Any], owner: str) -> None:
        self._engine = engine
        self._stage = stage
        self._shape = shape
        self._owner = owner

    async def run(self) -> Reading:
        start = self._stage.prepare()
        _, *options = arguments(self._stage.job(start, media=_MEDIA), ffmpeg="", progress_fd=1)
        made: list[str] = []

        def begin() -> None:
            container = self._engine.create_container(
                self._shape["Image"],
                entrypoint=[Options().ffmpeg],
                command=options,
                user=self._shape["Config"]["User"],
                host_config=self._shape["HostConfig"],
                labels={_OWNER: self._owner},
            )
            made.append(container["Id"])
            self._engine.start(container["Id"])

        try:
            return await self._stage.timed(_NAME, start, lambda: asyncio.to_thread(begin))
        finally:
            for container in made:
                await asyncio.to_thread(self._engine.remove_container, container, force=True, v=True)


async def _shape_of_ours(engine: APIClient, stage: Stage, owner: str) -> Mapping[str, Any]:
    """How the engine describes a container of ours: with every limit that it was given."""
    shapes: list[dict[str, Any]] = []

    async def look() -> None:
        found = await asyncio.to_thread(engine.containers, filters={"label": f"{_OWNER}={owner}"})
        shapes.append(await asyncio.to_thread(engine.inspect_container, found[0]["Id"]))

    await stage.ours(_NAME, meanwhile=look)
    return shapes[0]


@contextlib.contextmanager
def _engine(owner: str) -> Iterator[APIClient]:
    """Whatever bears the owner's label at the end is removed."""
    client = APIClient(base_url=_host(), version="auto", timeout=30)
    # Else each call looks for proxies in the environment; ours does not, either.
    client.trust_env = False
    with contextlib.closing(client):
        try:
            yield client
        finally:
            for left in client.containers(all=True, filters={"label": f"{_OWNER}={owner}"}):
                client.remove_container(left["Id"], force=True, v=True)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _host() -> str:
    return os.environ.get("DOCKER_HOST", DEFAULT_HOST)
