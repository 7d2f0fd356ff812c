"""Processes told apart, and ended for certain."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from services.streams.runtime.processes import ProcessId, identify

#: Ignores SIGTERM, and has a child that does, too; says when both are there.
STUBBORN = "trap '' TERM; sleep 60 & echo $!; wait; wait"


@asynccontextmanager
async def running(*argv: str) -> AsyncIterator[tuple[ProcessId, asyncio.subprocess.Process]]:
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        yield identify(process.pid), process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_process_lives_until_it_has_ended() -> None:
    async with running("sleep", "60") as (process, handle):
        assert process.lives()

        handle.kill()
        await handle.wait()

        assert not process.lives()
        with pytest.raises(ProcessLookupError):
            identify(process.pid)


async def test_process_is_asked_first() -> None:
    async with running("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done") as found:
        process, handle = found
        assert handle.stdout is not None
        await handle.stdout.readline()

        assert await asyncio.to_thread(process.end, patience=20.0)

        assert await handle.wait() == 7


async def test_process_that_does_not_listen_is_killed_with_its_children() -> None:
    async with running("sh", "-c", STUBBORN) as (process, handle):
        assert handle.stdout is not None
        child = psutil.Process(int(await handle.stdout.readline()))

        assert await asyncio.to_thread(process.end, patience=0.2)

        assert await handle.wait() == -9
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_end_of_a_process_that_is_gone_is_no_error_and_no_one_elses_end() -> None:
    async with running("sleep", "60") as (process, handle):
        former = ProcessId(pid=process.pid, started=process.started - 1, boot=process.boot)

        assert await asyncio.to_thread(former.end, patience=0.0)
        assert await asyncio.to_thread(
            ProcessId(pid=2**22 - 1, started=1, boot=process.boot).end, patience=0.0
        )

        assert handle.returncode is None
        assert process.lives()


def test_name_with_brackets_and_blanks_does_not_confuse() -> None:
    us = identify(os.getpid())

    with open("/proc/self/comm", "w") as name:
        name.write("a) Z (b")
    try:
        assert identify(os.getpid()) == us
        assert us.lives()
    finally:
        with open("/proc/self/comm", "w") as name:
            name.write("python")
