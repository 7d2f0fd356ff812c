"""`make run` from outside: what it shows, how soon, and that nothing of it is left."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psutil
import pytest

from tests.support.database import embedded_cluster
from tests.support.engine import DockerEngine
from tests.support.suite import REPOSITORY, SuiteRun, Verdict, left_behind, running_suite

pytestmark = pytest.mark.timeout(180)

NO_ENGINE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
#: Seconds from the command to the first acknowledged byte, once everything is installed.
FIRST_BYTE = 12


def interrupt(run: SuiteRun) -> None:
    """As the terminal does on Ctrl-C: everybody in the foreground is told."""
    os.killpg(run.process.pid, signal.SIGINT)


def terminate(run: SuiteRun) -> None:
    run.process.terminate()


def hang_up(run: SuiteRun) -> None:
    run.process.send_signal(signal.SIGHUP)


async def test_streams_for_a_while_and_leaves_nothing() -> None:
    began = time.monotonic()
    async with running_suite("--duration", "20", environment=NO_ENGINE) as run:
        folder = await run.folder()
        await run.line("^first media acknowledged")
        first = time.monotonic() - began
        verdict = await run.end()

    assert run.process.returncode == 0, run.lines
    assert verdict.status == "stopped"
    assert verdict.delivered_seconds >= 10
    # The sample has 1.9 Mbit/s.
    assert verdict.acknowledged_bytes > verdict.delivered_seconds * 100_000
    assert first <= FIRST_BYTE
    assert left_behind(folder) == []


async def test_streams_from_containers_where_an_engine_is(docker_engine: DockerEngine) -> None:
    async with running_suite("--duration", "8", environment={"DOCKER_HOST": docker_engine.host}) as run:
        folder = await run.folder()
        assert "real" in await run.line("^  runtime ")
        verdict = await run.end()

    assert run.process.returncode == 0, run.lines
    assert verdict.acknowledged_bytes > 0
    assert left_behind(folder) == []
    owners = [one["Labels"].get("io.streamax.owner", "") for one in docker_engine.client.containers(all=True)]
    assert not [owner for owner in owners if owner.startswith("suite-")]


async def test_says_what_is_embedded_and_why_without_an_engine() -> None:
    async with running_suite("--duration", "1", environment=NO_ENGINE) as run:
        assert "embedded  PostgreSQL" in await run.line("^  database ")
        runtime = await run.line("^  runtime ")
        assert "embedded  plain processes, because no Docker Engine answers" in runtime
        assert "embedded  ffmpeg" in await run.line("^  ffmpeg ")


async def test_calls_it_prints_work_as_they_are() -> None:
    async with running_suite(environment=NO_ENGINE) as run:
        await run.line("^call it meanwhile")
        await run.line("^make the ingest misbehave")
        await run.line("^session .* running")
        tokens = [one for one in run.lines if re.match("(TOKEN|ADMIN)=", one)]
        calls = [one for one in run.lines if "buf curl" in one]
        grpcurl = [one for one in run.lines if one.startswith("grpcurl")]
        replies = [await shell("\n".join([*tokens, call])) for call in calls]
        interrupt(run)
        await run.end()

    services = ("AuthService", "UserService", "UserAdminService", "StreamService")
    assert all(any(service in call for call in calls) for service in services)
    assert len(grpcurl) == len(calls)
    assert [status for status, _ in replies] == [0] * len(calls), replies
    assert "SESSION_STATUS_RUNNING" in replies[-1][1]


async def test_ingest_misbehaves_when_told() -> None:
    async with running_suite(environment=NO_ENGINE) as run:
        address = re.search(r"http://127.0.0.1:\d+/", await run.line("^make the ingest misbehave"))
        assert address is not None
        await run.line("^session .* running")
        await shell(f"{sys.executable} -c '{POST}' {address[0]}closed")
        await shell(f"{sys.executable} -c '{POST}' {address[0]}reset-now")
        await run.line(r"^session .* starting \((network|remote_refused): ")
        interrupt(run)
        await run.end()
    assert run.process.returncode == 0, run.lines


#: curl is on no minimal machine.
POST = 'import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], method="POST"))'


@pytest.mark.parametrize("tell", [interrupt, terminate, hang_up])
async def test_told_to_end_it_stops_the_stream_and_leaves_nothing(tell: Callable[[SuiteRun], None]) -> None:
    async with running_suite(environment=NO_ENGINE) as run:
        folder = await run.folder()
        await run.line("^session .* running")
        tell(run)
        verdict = await run.end()

    assert run.process.returncode == 0, run.lines
    assert verdict.status == "stopped"
    assert verdict.acknowledged_bytes > 0
    assert left_behind(folder) == []


@pytest.mark.parametrize("after", [None, "made an admin", "^call it meanwhile"])
@pytest.mark.parametrize("tell", [interrupt, terminate])
async def test_told_to_end_while_starting_it_leaves_nothing(
    after: str | None, tell: Callable[[SuiteRun], None]
) -> None:
    async with running_suite(environment=NO_ENGINE) as run:
        folder = await run.folder()
        if after is not None:
            await run.line(after)
        tell(run)
        verdict = await run.end()

    assert run.process.returncode == 1
    assert verdict.status in ("never started", "stopped")
    assert left_behind(folder) == []


async def test_service_that_dies_ends_the_run_with_its_last_words() -> None:
    async with running_suite(environment=NO_ENGINE) as run:
        folder = await run.folder()
        await run.line("^session .* running")
        [service] = [
            # Asked for this way, a process that is gone or a zombie has none.
            one
            for one in psutil.process_iter(["cmdline"])
            if str(folder / "streams.toml") in (one.info["cmdline"] or ())
        ]
        service.kill()
        await run.line("^problem: the streams service ended with status -9")
        await run.end()

    assert run.process.returncode == 1
    assert left_behind(folder) == []


async def test_uses_the_database_it_is_given() -> None:
    with embedded_cluster() as server:
        async with running_suite(
            "--duration", "3", environment=NO_ENGINE | {"STREAMAX_DATABASE_URL": server.dsn()}
        ) as run:
            folder = await run.folder()
            assert "real      PostgreSQL" in await run.line("^  database ")
            verdict = await run.end()
        assert run.process.returncode == 0, run.lines
        assert verdict.acknowledged_bytes > 0
        assert left_behind(folder) == []


async def test_shows_a_table_on_a_terminal_and_ends_on_ctrl_c() -> None:
    async with on_terminal(environment=NO_ENGINE) as (terminal, process):
        shown = await terminal.until("running")
        assert "delivered s" in shown
        terminal.type("\x03")
        shown = await terminal.until(r"main job: .*\n")
        await process.wait()
    assert process.returncode == 0
    assert Verdict.parse(shown.strip().splitlines()[-1]).acknowledged_bytes > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="everything here already runs as an ordinary user")
async def test_runs_as_an_ordinary_user() -> None:
    # Root's repository and Python may lie where nobody else can go: reading is all this capability allows.
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    as_nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading)
    command = (*as_nobody, sys.executable, "-m", "cli")
    environment = NO_ENGINE | {"HOME": "/nonexistent"}
    async with running_suite("--duration", "3", environment=environment, command=command) as run:
        folder = await run.folder()
        assert folder.stat().st_uid == 65534
        verdict = await run.end()
    assert run.process.returncode == 0, run.lines
    assert verdict.acknowledged_bytes > 0
    assert left_behind(folder) == []


async def shell(line: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_shell(
        line, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


class Terminal:
    """The other side of a pseudo-terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def until(self, matches: str) -> str:
        """All that was shown, without its styling, once this is in it."""
        while not re.search(matches, self._shown):
            data = await asyncio.to_thread(os.read, self._descriptor, 65536)
            self._shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", data.decode(errors="replace"))
        return self._shown


@asynccontextmanager
async def on_terminal(
    *, environment: dict[str, str]
) -> AsyncIterator[tuple[Terminal, asyncio.subprocess.Process]]:
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "suite", "run"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=REPOSITORY,
            env=dict(os.environ) | environment | {"TERM": "xterm", "COLUMNS": "200"},
            start_new_session=True,
            # Without a controlling terminal there is no Ctrl-C.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        try:
            yield Terminal(ours), process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
    finally:
        os.close(ours)
