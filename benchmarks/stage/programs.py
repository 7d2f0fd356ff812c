"""Programs in processes of their own: started, awaited, ended."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Program", "ProgramFailed", "program"]

_ROOT: Final = Path(__file__).parents[2]
#: Seconds.
_START: Final = 60.0
_END: Final = 30.0
_LOOK: Final = 0.02
_TELLING: Final = ("OTEL_", "STREAMAX_", "GRPC_")


class ProgramFailed(RuntimeError):
    """It ended by itself or never became ready; the text holds the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One that runs and is ready."""

    pid: int
    #: host:port it answers on.
    address: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])


@asynccontextmanager
async def program(
    module: str, *arguments: str, log: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Program]:
    """`python -m module`, once it has logged `{"message": "ready", "address": …}`. Raises ProgramFailed.

    It logs to a file, as under an init system: a pipe would have to be read by
    us, on the cores that are being measured.
    """
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=_ROOT,
            env=_plain_environment() | dict(environment or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
        )
    try:
        async with asyncio.timeout(_START):
            address = await _ready(process, log)
        yield Program(pid=process.pid, address=address, log=log)
    finally:
        await _end(process)


def _plain_environment() -> dict[str, str]:
    """Ours, without what would make a program log, trace or connect otherwise than the figure says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_TELLING)}
    return kept | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'protos'}"}


async def _ready(process: asyncio.subprocess.Process, log: Path) -> str:
    while process.returncode is None:
        for line in log.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and (address := _address(line)):
                return address
        await asyncio.sleep(_LOOK)
    raise ProgramFailed("\n".join(log.read_text(errors="replace").splitlines()[-15:]))


def _address(line: bytes) -> str | None:
    with contextlib.suppress(ValueError):
        match json.loads(line):
            case {"message": "ready", "address": str(address)}:
                return address
    return None


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_END):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
