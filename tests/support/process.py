"""A service in a process of its own, started as operators start it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

_ROOT = Path(__file__).parents[2]


@dataclass(slots=True)
class ServiceProcess:
    """`python -m services <name> --config <file>`, ready."""

    process: asyncio.subprocess.Process
    #: All of stderr so far.
    log: list[str] = field(default_factory=list)

    def lines(self) -> list[dict[str, Any]]:
        """The log's JSON lines so far."""
        return [orjson.loads(line) for line in self.log if line.startswith("{")]

    async def stop(self) -> int:
        """Told to stop as an init system would; the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return await self.process.wait()

    async def _read(self, ready: asyncio.Event) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode())
            if line.startswith(b"{") and orjson.loads(line).get("message") == "ready":
                ready.set()
        ready.set()


@asynccontextmanager
async def service_process(
    name: str, config: Path, *, environment: Mapping[str, str] | None = None
) -> AsyncIterator[ServiceProcess]:
    """Ready when entered, stopped and read to the end of its log when left."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services",
        name,
        "--config",
        str(config),
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'protos'}", **(environment or {})},
        stderr=asyncio.subprocess.PIPE,
    )
    started, ready = ServiceProcess(process), asyncio.Event()
    reading = asyncio.create_task(started._read(ready))
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        assert process.returncode is None, "".join(started.log)
        yield started
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


def free_port() -> int:
    """A TCP port of loopback that nobody had a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
