"""The encoder program as a process of its own, with its reports as they come."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cli.suite.media import ffmpeg
from encoder.job import Job
from encoder.report import LogLine, Report, State, parse

__all__ = ["PROGRAM", "EncoderProcess", "alive", "encoder_process"]

#: What `python3 -I -S` is given to run.
PROGRAM = str(Path(__file__).parents[2] / "encoder")


class EncoderProcess:
    """A running encoder; made by `encoder_process()`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.reports: list[Report] = []
        self.logs: list[LogLine] = []
        #: Everything it wrote, both streams.
        self.text = ""
        self._arrived = asyncio.Event()
        self._looked_at = 0
        self._readers = [
            asyncio.create_task(self._read(stream), name="encoder output")
            for stream in (process.stdout, process.stderr)
            if stream
        ]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def ffmpeg(self) -> int | None:
        """Its child now, if it has one."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(found[0]) if found else None

    async def report(self, wanted: Callable[[Report], bool]) -> Report:
        """The next report that fits, from the last one this returned on."""
        while True:
            while self._looked_at < len(self.reports):
                report = self.reports[self._looked_at]
                self._looked_at += 1
                if wanted(report):
                    return report
            if self._done:
                raise AssertionError(f"the encoder ended without it; all it wrote:\n{self.text}")
            self._arrived.clear()
            await self._arrived.wait()

    async def state(self, state: State) -> Report:
        """The next report of this state."""
        return await self.report(lambda report: report.state is state)

    async def logged(self, words: str) -> LogLine:
        """The first log line with these words in it."""
        while True:
            for line in self.logs:
                if words in line.text:
                    return line
            if self._done:
                raise AssertionError(f"the encoder ended without it; all it wrote:\n{self.text}")
            self._arrived.clear()
            await self._arrived.wait()

    async def stop(self) -> int:
        """Asked as an engine asks; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """The exit code, once it has ended and all it wrote is read."""
        await asyncio.gather(*self._readers)
        return await self.process.wait()

    @property
    def _done(self) -> bool:
        return all(reader.done() for reader in self._readers)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        async for line in stream:
            self.text += line.decode("utf-8", "replace")
            match parse(line):
                case Report() as report:
                    self.reports.append(report)
                case LogLine() as log:
                    self.logs.append(log)
            self._arrived.set()
        self._arrived.set()


@asynccontextmanager
async def encoder_process(
    job: Job | str | None,
    *,
    options: Sequence[str] = (),
    ffmpeg_path: str | None = None,
    stdout: int = PIPE,
) -> AsyncIterator[EncoderProcess]:
    """Started with the job on its standard input, which stays open as a control plane's would.

    None gives no job, and a string is given as it is. Killed at the end.
    """
    command = [sys.executable, "-I", "-S", PROGRAM, "--ffmpeg", ffmpeg_path or ffmpeg(), *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE if job is not None else DEVNULL, stdout=stdout, stderr=PIPE
    )
    encoder = EncoderProcess(process)
    try:
        if job is not None and process.stdin is not None:
            process.stdin.write((job.to_json() if isinstance(job, Job) else job).encode() + b"\n")
            await process.stdin.drain()
        yield encoder
    finally:
        if process.returncode is None:
            process.kill()
        await encoder.ended()


def alive(pid: int) -> bool:
    """Whether a process of this number runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" and os.path.exists(f"/proc/{pid}/exe")
