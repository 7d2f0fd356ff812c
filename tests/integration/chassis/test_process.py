"""One process or several: started, stopped, killed, failing."""

import asyncio
import os
import signal
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import grpc
import psutil
import pytest

from tests.support.polling import until
from tests.support.probe import Ask, ProbeStub
from tests.support.process import free_port
from tests.support.program import Program, running


def ready(line: dict[str, Any]) -> bool:
    return line.get("message") == "ready"


def children(program: Program) -> set[int]:
    return {child.pid for child in psutil.Process(program.pid).children()}


async def ask(port: int, text: str = "") -> int:
    """The process that answers a new connection."""
    # Without a global subchannel pool of gRPC's, each channel is a connection of its own.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        return int((await ProbeStub(channel).OneOne(Ask(text=text), timeout=10, wait_for_ready=True)).text)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_says_when_it_is_ready_and_stops_when_told(
    workers: int, told: signal.Signals
) -> None:
    port = free_port()
    async with running("serve", str(port), str(workers)) as program:
        line = await program.until_logged(ready)
        assert line["workers"] == workers
        pids = children(program) if workers > 1 else {program.pid}
        assert await ask(port) in pids
        os.kill(program.pid, told)
        assert await program.ended() == 0
    assert {line["stopped"] for line in program.said} == pids
    assert not any(map(psutil.pid_exists, pids))


async def test_ctrl_c_in_a_terminal_lets_every_worker_finish() -> None:
    async with running("serve", str(free_port()), "2") as program:
        await program.until_logged(ready)
        pids = children(program)
        os.killpg(program.pid, signal.SIGINT)
        assert await program.ended() == 0
    assert {line["stopped"] for line in program.said} == pids
    assert not [line for line in program.logged if "raw" in line or "exception" in line]


async def test_connections_spread_over_the_workers() -> None:
    port = free_port()
    async with running("serve", str(port), "2") as program:
        await program.until_logged(ready)
        seen = {await ask(port) for _ in range(40)}
        assert seen == children(program)


async def test_a_worker_that_dies_is_replaced_while_the_other_serves() -> None:
    port = free_port()
    async with running("serve", str(port), "2") as program:
        await program.until_logged(ready)
        before = children(program)
        victim = await ask(port)
        os.kill(victim, signal.SIGKILL)
        await program.until_logged(lambda line: line.get("message") == "worker died")
        assert await ask(port) in before - {victim}
        await until(lambda: len(children(program)) == 2)
        (newcomer,) = children(program) - before
        await program.until_logged(
            lambda line: line.get("message") == "worker ready" and line.get("pid") == newcomer
        )
        program.process.terminate()
        assert await program.ended() == 0
    assert len([line for line in program.logged if ready(line)]) == 1


async def test_a_worker_that_dies_again_and_again_is_started_ever_more_slowly() -> None:
    async with running("serve", str(free_port()), "2") as program:
        await program.until_logged(ready)
        for deaths in (1, 2):
            os.kill(program.logged_of("worker ready", worker=0)[-1]["pid"], signal.SIGKILL)
            await program.until_logged(partial(_back, program, deaths))
        died = [line["time"] for line in program.logged_of("worker died", worker=0)]
        back = [line["time"] for line in program.logged_of("worker ready", worker=0)[1:]]
    first, second = (
        datetime.fromisoformat(after) - datetime.fromisoformat(before)
        for before, after in zip(died, back, strict=True)
    )
    assert second > first
    assert second >= timedelta(seconds=1)


def _back(program: Program, deaths: int, _line: object) -> bool:
    return len(program.logged_of("worker ready", worker=0)) > deaths


async def test_workers_do_not_outlive_a_killed_parent() -> None:
    port = free_port()
    async with running("serve", str(port), "2") as program:
        await program.until_logged(ready)
        pids = children(program)
        program.process.kill()
        await until(lambda: not any(map(psutil.pid_exists, pids)))
        await program.ended()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_service_that_cannot_start_fails_and_logs_why_without_its_secrets(workers: str) -> None:
    async with running("fail", workers) as program:
        assert await program.ended() == 1
    failure = await program.until_logged(lambda line: line.get("message") == "process failed")
    assert "no such thing as" in failure["exception"]
    assert "canary-key" not in str(program.logged)
    assert not [line for line in program.logged if "raw" in line]


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_signal_ends_what_the_first_did_not(workers: str) -> None:
    async with running("ignore-stop", workers) as program:
        await program.until_logged(ready)
        program.process.terminate()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await program.process.wait()
        program.process.terminate()
        assert await program.ended() == 0
    assert len(program.said) == int(workers)


async def test_a_worker_that_does_not_end_is_killed() -> None:
    async with running("deaf", "2") as program:
        await program.until_logged(ready)
        pids = children(program)
        program.process.terminate()
        assert await program.ended() == signal.SIGKILL
    assert not any(map(psutil.pid_exists, pids))
