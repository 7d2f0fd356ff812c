"""A real ffmpeg publishing to an RTMP server, for tests of that server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cli.suite.media import ffmpeg


@asynccontextmanager
async def publishing(source: Path, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """ffmpeg sending the file in a loop, in real time; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-re", "-stream_loop", "-1"),
        *("-i", str(source), "-c", "copy", "-flvflags", "no_duration_filesize", "-f", "flv", url),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
