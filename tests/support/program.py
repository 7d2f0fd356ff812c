"""A program of tests.support.programs, running: what it says, and its log."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

_ROOT = Path(__file__).parents[2]


class Program:
    """Started; its standard output and its log are read as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []
        #: The log's lines; those that are no JSON as `{"raw": text}`.
        self.logged: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._reading = [
            asyncio.create_task(self._read(process.stdout, self.said)),
            asyncio.create_task(self._read(process.stderr, self.logged)),
        ]

    @property
    def pid(self) -> int:
        return self.process.pid

    def logged_of(self, message: str, **fields: Any) -> list[dict[str, Any]]:
        """The log's lines with this message and these fields so far."""
        wanted = {"message": message, **fields}
        return [line for line in self.logged if wanted.items() <= line.items()]

    async def until_said(self, satisfied: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first line of output that satisfies; raises TimeoutError after 20 s."""
        return await self._until(self.said, satisfied)

    async def until_logged(self, satisfied: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first line of the log that satisfies; raises TimeoutError after 20 s."""
        return await self._until(self.logged, satisfied)

    async def ended(self) -> int:
        """The exit status, once all output is read; raises TimeoutError after 20 s."""
        async with asyncio.timeout(20):
            status = await self.process.wait()
            await asyncio.gather(*self._reading)
        return status

    async def _until(
        self, lines: list[dict[str, Any]], satisfied: Callable[[dict[str, Any]], Any]
    ) -> dict[str, Any]:
        async with asyncio.timeout(20), self._news:
            await self._news.wait_for(lambda: any(map(satisfied, lines)))
        return next(line for line in lines if satisfied(line))

    async def _read(self, stream: asyncio.StreamReader | None, lines: list[dict[str, Any]]) -> None:
        assert stream is not None
        async for line in stream:
            async with self._news:
                lines.append(orjson.loads(line) if line.startswith(b"{") else {"raw": line.decode()})
                self._news.notify_all()


@asynccontextmanager
async def running(*arguments: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """The program, killed with whatever it left in its process group when the test is done."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.programs", *arguments),
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'protos'}", **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A group of its own, as a terminal gives it: what it leaves behind can be ended with it.
        start_new_session=True,
    )
    program = Program(process)
    try:
        yield program
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await program.ended()
