"""`start_process`: from StartStream to the first bytes at the destination, encoders being plain processes."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figure import Bar, Quantity, Reading, Sides
from benchmarks.stage.database import cluster, migrated
from benchmarks.stage.service import streams
from benchmarks.stage.starts import FIRST_BYTES, Stage
from cli.suite.media import ffmpeg, make_sample
from cli.suite.sink import Sink
from encoder.command import arguments

__all__ = ["StartProcess"]

_NAME: Final = "start_process"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProcess:
    """The way of a stream through admission, database, reconciler and supervisor, in seconds."""

    name: str = _NAME
    title: str = "Starting a stream as a process"
    ours: str = (
        "StartStream of `python -m services streams` over the process runtime, of a file never seen before: "
        "examined, admitted by the database, launched by the reconciler, supervised"
    )
    floor: str = "the same ffmpeg with the same arguments, spawned by hand"
    rounds: int = 15

    @property
    def quantities(self) -> Sequence[Quantity]:
        return (
            Quantity(
                name=_NAME,
                title=f"From the start to {FIRST_BYTES:,} bytes at the destination",
                unit="s",
                bar=Bar(ratio=1.5),
            ),
        )

    @asynccontextmanager
    async def sides(self) -> AsyncIterator[Sides]:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamax-bench-")))
            folder.chmod(0o711)
            server = await stack.enter_async_context(cluster(folder))
            database = await stack.enter_async_context(migrated(server))
            sink = await stack.enter_async_context(Sink())
            sample = await make_sample(folder / "sample.mp4")
            service = await stack.enter_async_context(
                streams(
                    folder / "streams",
                    database,
                    engine={
                        "destinations": [f"rtmp://{sink.host}:{sink.port}"],
                        "process": {"folder": "encoders", "ffmpeg": ffmpeg()},
                    },
                )
            )
            stage = Stage(service, sink, await service.user(), sample)

            async def ours() -> Reading:
                return await stage.ours(_NAME)

            async def floor() -> Reading:
                return await _by_hand(stage)

            # The programs come into the page cache with the first start.
            await ours()
            await floor()
            yield Sides(ours=ours, floor=floor)


async def _by_hand(stage: Stage) -> Reading:
    start = stage.prepare()
    command = arguments(stage.job(start, media=str(stage.media)), ffmpeg=ffmpeg(), progress_fd=1)
    spawned: list[asyncio.subprocess.Process] = []

    async def begin() -> None:
        spawned.append(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        )

    try:
        return await stage.timed(_NAME, start, begin)
    finally:
        for process in spawned:
            process.terminate()
            await process.wait()
