"""What is particular to processes: crashes of the service, pids used again, files that grow."""

import asyncio
import json
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from cli.suite.media import ffmpeg
from cli.suite.sink import Sink
from encoder.report import State
from services.streams.runtime import Container, ContainerState, Launch, LaunchRefused
from services.streams.runtime.process import ProcessConfig, ProcessRuntime
from tests.conformance.rigs import LIMITS

_ROOT = Path(__file__).parents[3]

#: A control plane in a process of its own: launches what standard input says, then waits for its end.
CONTROL_PLANE = """
import asyncio, json, sys
from pathlib import Path
from uuid import UUID
from encoder.job import Limits
from services.streams.runtime import Launch
from services.streams.runtime.process import ProcessConfig, ProcessRuntime

async def main():
    config, order = json.loads(sys.stdin.readline())
    runtime = ProcessRuntime(ProcessConfig(**{name: Path(value) for name, value in config.items()}))
    order["session_id"] = UUID(order["session_id"])
    order["media_folder"] = Path(order["media_folder"])
    order["limits"] = Limits(**order["limits"])
    launched = await runtime.launch(Launch(**order))
    print(launched.id, launched.state, flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as sink:
        yield sink


@pytest.fixture
def config(tmp_path: Path) -> ProcessConfig:
    return ProcessConfig(folder=tmp_path / "state", ffmpeg=Path(ffmpeg()))


@pytest.fixture
async def runtime(config: ProcessConfig) -> AsyncIterator[ProcessRuntime]:
    runtime = ProcessRuntime(config)
    yield runtime
    for left in await runtime.list():
        await runtime.stop(left.id)
    await runtime.close()


@pytest.fixture
def order(sink: Sink, encoder_media: Path) -> Launch:
    return Launch(
        session_id=uuid4(),
        generation=1,
        media_folder=encoder_media,
        source="loop.mp4",
        destination=sink.url(),
        stream_key=f"key-{uuid4()}",
        limits=LIMITS,
    )


async def delivering(runtime: ProcessRuntime, container: Container) -> Container:
    hints = runtime.hints()
    async with asyncio.timeout(45):
        while True:
            (found,) = (one for one in await runtime.list() if one.id == container.id)
            if found.report is not None and found.report.state is State.DELIVERING:
                return found
            with suppress(TimeoutError):
                await asyncio.wait_for(anext(hints), 0.2)


def encoder_of(config: ProcessConfig, container: Container) -> psutil.Process:
    record = json.loads((config.folder / container.id / "encoder.json").read_bytes())
    return psutil.Process(record["process"]["pid"])


async def control_plane(config: ProcessConfig, order: Launch) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CONTROL_PLANE),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{_ROOT}:{_ROOT / 'protos'}"},
        start_new_session=True,
    )
    fields: dict[str, Any] = {name: getattr(order, name) for name in order.__dataclass_fields__}
    fields |= {"session_id": str(order.session_id), "media_folder": str(order.media_folder)}
    fields["limits"] = order.limits._asdict()
    paths = {"folder": str(config.folder), "ffmpeg": str(config.ffmpeg)}
    assert process.stdin is not None
    process.stdin.write(json.dumps([paths, fields]).encode() + b"\n")
    return process


async def said(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().split()


async def ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def test_encoder_of_a_killed_service_streams_on_and_is_adopted(
    config: ProcessConfig, order: Launch, sink: Sink
) -> None:
    service = await control_plane(config, order)
    container_id, _ = await said(service)
    publication = await sink.publisher(order.stream_key)
    await sink.received(order.stream_key, 50_000)

    # With all of its process group, as a terminal or an init system would.
    os.killpg(service.pid, signal.SIGKILL)
    await service.communicate()

    runtime = ProcessRuntime(config)
    (found,) = await runtime.list()
    assert (found.id, found.state) == (container_id, ContainerState.RUNNING)
    assert found.report is not None
    await sink.received(order.stream_key, sink.key(order.stream_key).media_bytes + 50_000)
    assert sink.key(order.stream_key).publications == [publication]
    await runtime.stop(found.id)
    (found,) = await runtime.list()
    # Nobody's child any more: its own last word tells the code.
    assert (found.state, found.exit_code) == (ContainerState.EXITED, 0)
    await runtime.close()


async def test_services_racing_on_one_launch_start_one_encoder(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime, sink: Sink
) -> None:
    services = [await control_plane(config, order) for _ in range(3)]

    answers = [await said(service) for service in services]

    assert {container_id for container_id, _ in answers} == {f"{order.session_id}-1"}
    (found,) = await runtime.list()
    await delivering(runtime, found)
    assert sink.key(order.stream_key).overlaps == 0
    assert len(sink.key(order.stream_key).publications) == 1
    for service in services:
        await ended(service)


async def test_launch_broken_off_by_a_crash_counts_as_exited_and_does_not_block(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime
) -> None:
    write_record(config, order.session_id, launcher={"pid": 1, "started": 0, "boot": "of long ago"})

    (found,) = await runtime.list()
    again = await runtime.launch(order)

    assert (found.state, found.started_at, found.exit_code) == (ContainerState.EXITED, None, None)
    assert (again.id, again.state) == (found.id, ContainerState.EXITED)
    await runtime.stop(found.id)
    await runtime.remove(found.id)
    assert await runtime.list() == []
    await delivering(runtime, await runtime.launch(order))


async def test_launch_under_way_elsewhere_is_neither_running_nor_removed(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime
) -> None:
    us = psutil.Process()
    home = write_record(config, order.session_id, launcher=process_id(us.pid))

    (found,) = await runtime.list()
    await runtime.remove(found.id)

    assert found.state is ContainerState.CREATED
    assert [one.id for one in await runtime.list()] == [found.id]
    (home / "record.json").unlink()


@pytest.mark.parametrize("difference", [{"started": 1}, {"boot": "before"}])
async def test_another_process_with_the_pid_is_not_taken_for_the_encoder(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime, difference: dict[str, object]
) -> None:
    bystander = await asyncio.create_subprocess_exec("sleep", "60")
    home = write_record(config, order.session_id, launcher=process_id(os.getpid()))
    record = {"process": process_id(bystander.pid) | difference, "at": 0.0}
    (home / "encoder.json").write_text(json.dumps(record))

    (found,) = await runtime.list()
    await runtime.stop(found.id)

    assert found.state is ContainerState.EXITED
    assert bystander.returncode is None
    assert psutil.pid_exists(bystander.pid)
    bystander.kill()
    await bystander.wait()


async def test_zombie_nobody_has_looked_at_has_exited(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime
) -> None:
    pid = a_zombie()
    home = write_record(config, order.session_id, launcher=process_id(os.getpid()))
    (home / "encoder.json").write_text(json.dumps({"process": process_id(pid), "at": 0.0}))

    (found,) = await runtime.list()
    await runtime.stop(found.id)

    assert found.state is ContainerState.EXITED
    await asyncio.to_thread(os.waitpid, pid, 0)


async def test_encoder_that_hangs_is_killed_with_its_ffmpeg(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime
) -> None:
    launched = await runtime.launch(order)
    await delivering(runtime, launched)
    encoder = encoder_of(config, launched)
    (child,) = encoder.children()
    encoder.suspend()

    async with asyncio.timeout(LIMITS.stop_first + LIMITS.stop_second + 2.0 + 4.0):
        await runtime.stop(launched.id)

    (found,) = await runtime.list()
    assert (found.state, found.exit_code) == (ContainerState.EXITED, 137)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_output_is_kept_short_without_losing_sight(config: ProcessConfig, order: Launch) -> None:
    runtime = ProcessRuntime(replace(config, output_bytes=2000))
    launched = await runtime.launch(order)
    output = config.folder / launched.id / "output"
    written = 0
    async with asyncio.timeout(45):
        hints = runtime.hints()
        while output.stat().st_size >= written:  # until it has been cut
            written = output.stat().st_size
            with suppress(TimeoutError):
                await asyncio.wait_for(anext(hints), 0.1)

    before = await delivering(runtime, launched)
    assert output.stat().st_size < 4000
    other = ProcessRuntime(config)
    found = await delivering(other, launched)

    assert before.report is not None
    assert found.report is not None
    assert found.report.at >= before.report.at
    await other.close()
    await runtime.stop(launched.id)
    (found,) = await runtime.list()
    assert found.report is not None
    assert found.report.state is State.ENDED
    await runtime.close()


async def test_launch_without_an_interpreter_is_refused_and_leaves_nothing(
    config: ProcessConfig, order: Launch
) -> None:
    runtime = ProcessRuntime(replace(config, python="/not/there"))

    with pytest.raises(LaunchRefused):
        await runtime.launch(order)

    assert list(config.folder.iterdir()) == []
    await runtime.close()


async def test_link_out_of_the_media_folder_is_refused(
    runtime: ProcessRuntime, order: Launch, tmp_path: Path
) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "loop.mp4").symlink_to(order.media_folder / "loop.mp4")

    with pytest.raises(LaunchRefused):
        await runtime.launch(replace(order, media_folder=folder))
    with pytest.raises(LaunchRefused):
        await runtime.launch(replace(order, media_folder=tmp_path / "not-there"))


async def test_state_is_private_and_drafts_of_the_dead_are_swept(
    config: ProcessConfig, order: Launch, runtime: ProcessRuntime
) -> None:
    launched = await runtime.launch(order)
    abandoned, young = config.folder / ".draft-old", config.folder / ".draft-young"
    abandoned.mkdir()
    young.mkdir()
    os.utime(abandoned, (0, 0))

    await runtime.list()

    assert not abandoned.exists()
    assert young.exists()
    assert stat.S_IMODE(config.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((config.folder / launched.id).stat().st_mode) == 0o700


def write_record(config: ProcessConfig, session_id: UUID, *, launcher: dict[str, object]) -> Path:
    """What a launch leaves that came as far as its folder."""
    home = config.folder / f"{session_id}-1"
    home.mkdir(parents=True, exist_ok=True)
    record = {
        "session_id": str(session_id),
        "generation": 1,
        "launch": uuid4().hex,
        "launcher": launcher,
        "patience": 4.0,
    }
    (home / "record.json").write_text(json.dumps(record))
    return home


def process_id(pid: int) -> dict[str, object]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"pid": pid, "started": int(fields[19]), "boot": boot}


def a_zombie() -> int:
    """The pid of a child of ours that has ended and was not waited for."""
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid
