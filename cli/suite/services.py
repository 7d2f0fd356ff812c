"""Services as processes of their own, as in production: started, awaited, watched, drained."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cli.suite.files import write_toml

__all__ = ["Service", "ServiceFailed", "serving"]

#: Seconds until `ready`; one is usual, a full machine takes longer.
START: Final = 60.0
#: Seconds to end when told to; their own grace is 10.
DRAIN: Final = 15.0
#: Lines of the log that a failure shows.
SHOWN: Final = 15


class ServiceFailed(Exception):
    """A service ended by itself, or never became ready, or did not drain; with its last log lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running one."""

    name: str
    #: host:port it answers on.
    address: str
    #: What it logs.
    log: Path
    _process: asyncio.subprocess.Process = field(repr=False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raises ServiceFailed once it has ended by itself."""
        if self._process.returncode is not None:
            raise _failure(self.name, f"ended with status {self._process.returncode}", self.log)


@asynccontextmanager
async def serving(
    name: str, config: Mapping[str, object], *, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[Service]:
    """The service of that name on a free port, answering; drained at the end. Raises ServiceFailed."""
    log = folder / f"{name}.log"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services", name),
        *("--config", str(write_toml(folder / f"{name}.toml", config))),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
        env=environment,
        # A Ctrl-C at the terminal is for the suite, which stops its parts in their order.
        start_new_session=True,
    )
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    keeping = asyncio.create_task(_keep(process, log, ready), name=f"log of {name}")
    try:
        try:
            async with asyncio.timeout(START):
                address = await ready
        except TimeoutError:
            raise _failure(name, f"was not ready in {START:.0f} s", log) from None
        except EOFError:
            raise _failure(name, "ended before it was ready", log) from None
        yield Service(name=name, address=address, log=log, _process=process)
    finally:
        drained = await _end(process)
        await keeping
    if not drained:
        raise _failure(name, f"did not drain within {DRAIN:.0f} s and was killed", log)


async def _keep(process: asyncio.subprocess.Process, log: Path, ready: asyncio.Future[str]) -> None:
    """Its log into the file, and the address out of the line that says it is ready."""
    assert process.stderr is not None
    torn = b""
    with log.open("wb", buffering=0) as file:
        while chunk := await process.stderr.read(65536):
            file.write(chunk)
            if not ready.done():
                *lines, torn = (torn + chunk).split(b"\n")
                for address in filter(None, map(_ready_address, lines)):
                    ready.set_result(address)
    if not ready.done():
        ready.set_exception(EOFError())


def _ready_address(line: bytes) -> str | None:
    try:
        match json.loads(line):
            case {"message": "ready", "address": str(address)}:
                return address
    except ValueError:
        # A traceback from before logging began.
        return None
    return None


async def _end(process: asyncio.subprocess.Process) -> bool:
    """Whether it ended by itself when told to."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(DRAIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return True


def _failure(name: str, what: str, log: Path) -> ServiceFailed:
    lines = log.read_text(errors="replace").splitlines()[-SHOWN:] if log.exists() else []
    return ServiceFailed("\n".join((f"the {name} service {what}", *lines)))
