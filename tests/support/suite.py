"""`make run`'s program as a process, and what it leaves behind."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import psutil

__all__ = ["REPOSITORY", "SuiteRun", "Verdict", "left_behind", "running_suite"]

REPOSITORY: Final = Path(__file__).parents[2]

_VERDICT: Final = re.compile(
    r"main job: delivered (?P<seconds>\d+\.\d) s, (?P<size>\d+) bytes acknowledged, status (?P<status>.+)"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last line."""

    delivered_seconds: float
    acknowledged_bytes: int
    status: str

    @classmethod
    def parse(cls, line: str) -> Self:
        match = _VERDICT.fullmatch(line)
        assert match is not None, f"not a last line: {line!r}"
        return cls(float(match["seconds"]), int(match["size"]), match["status"])


@dataclass(slots=True)
class SuiteRun:
    """One run, read line by line."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def line(self, matches: str) -> str:
        """The next line in which this is found."""
        while found := await self._next():
            if re.search(matches, found):
                return found
        raise AssertionError(f"ended without {matches!r}:\n" + "\n".join(self.lines))

    async def end(self) -> Verdict:
        """The last line, once it has ended."""
        while await self._next():
            pass
        await self.process.wait()
        return Verdict.parse(self.lines[-1])

    async def folder(self) -> Path:
        """Its run folder, told in the first line."""
        return Path((await self.line("^StreamAX in ")).removeprefix("StreamAX in "))

    async def _next(self) -> str:
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode().rstrip()
        if line:
            self.lines.append(line)
        return line


@asynccontextmanager
async def running_suite(
    *options: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = (sys.executable, "-m", "cli"),
) -> AsyncIterator[SuiteRun]:
    """The suite in a session of its own, told to end should the test leave it running."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("STREAMAX_")}
    process = await asyncio.create_subprocess_exec(
        *(*command, "suite", "run", *options),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=REPOSITORY,
        env=given | {"PYTHONUNBUFFERED": "1"} | dict(environment or {}),
        start_new_session=True,
        limit=1 << 20,
    )
    try:
        yield SuiteRun(process)
    finally:
        if process.returncode is None:
            # Killed, it could not clear up after itself.
            process.terminate()
        await process.communicate()


def left_behind(folder: Path) -> list[str]:
    """Files and processes of the run with this folder, for people to read; none is right."""
    found = [str(folder)] if folder.exists() else []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words):
            found.append(f"{process.info['pid']}: {' '.join(words)[:200]}")
    return found
