"""What is particular to containers: how they are confined, and engines that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from cli.suite.sink import Sink
from encoder.report import LogLine, Report, State
from services.streams.runtime import Container, ContainerState, EngineUnavailable, Launch, LaunchRefused
from services.streams.runtime.docker import DockerConfig, DockerRuntime
from services.streams.runtime.docker_engine import Engine
from tests.conformance.rigs import LIMITS
from tests.support.engine import CuttableEngine, DockerEngine, cuttable

# The Docker SDK leaves the socket of a connection that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
async def sink(docker_engine: DockerEngine) -> AsyncIterator[Sink]:
    async with Sink(docker_engine.gateway) as sink:
        yield sink


@pytest.fixture
async def proxy(docker_engine: DockerEngine, tmp_path: Path) -> AsyncIterator[CuttableEngine]:
    async with cuttable(docker_engine, tmp_path) as proxy:
        yield proxy


@pytest.fixture
def config(docker_engine: DockerEngine, encoder_image: str, proxy: CuttableEngine) -> DockerConfig:
    # An owner per test: whatever one leaves is not another's.
    owner = f"{docker_engine.owner}-{uuid4().hex[:8]}"
    return DockerConfig(image=encoder_image, owner=owner, host=proxy.host, call_timeout=20.0, silence=2.0)


@pytest.fixture
async def runtime(config: DockerConfig, docker_engine: DockerEngine) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(config)
    yield runtime
    for left in await runtime.list():
        await asyncio.to_thread(docker_engine.client.remove_container, left.id, force=True)
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


async def observed(
    runtime: DockerRuntime, container: Container, holds: Callable[[Container], bool]
) -> Container:
    """The container once that holds, however often the engine does not answer before."""
    hints = runtime.hints()
    async with asyncio.timeout(45):
        while True:
            with suppress(EngineUnavailable):
                (found,) = (one for one in await runtime.list() if one.id == container.id)
                if holds(found):
                    return found
            with suppress(TimeoutError):
                await asyncio.wait_for(anext(hints), 0.2)


async def delivering(runtime: DockerRuntime, container: Container, *, after: float = 0.0) -> Container:
    """Once it says so, in a report of later than `after` (Unix time)."""
    return await observed(
        runtime,
        container,
        lambda one: one.report is not None and one.report.state is State.DELIVERING and one.report.at > after,
    )


async def test_container_may_do_nothing_but_stream(
    runtime: DockerRuntime, order: Launch, config: DockerConfig, docker_engine: DockerEngine
) -> None:
    launched = await runtime.launch(order)

    found = docker_engine.client.inspect_container(launched.id)

    host = found["HostConfig"]
    assert found["Name"] == f"/streamax-{order.session_id}-1"
    assert found["Config"]["User"] == "65534:65534"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"] is True
    assert host["PidsLimit"] == 64
    assert host["Memory"] == host["MemorySwap"] == 128 << 20
    assert host["NanoCpus"] == 10**9
    assert host["RestartPolicy"]["Name"] == "no"
    assert "noexec" in host["Tmpfs"]["/tmp"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": str(4 << 20), "max-file": "2"}}
    assert found["Config"]["StopTimeout"] == 4
    assert [(one["Source"], one["Destination"], one["RW"]) for one in found["Mounts"]] == [
        (str(order.media_folder), "/media", False)
    ]
    assert found["Config"]["Labels"].items() >= {
        ("io.streamax.owner", config.owner),
        ("io.streamax.session", str(order.session_id)),
        ("io.streamax.generation", "1"),
    }


async def test_container_that_the_engine_refuses_leaves_nothing(
    runtime: DockerRuntime, config: DockerConfig, order: Launch, tmp_path: Path
) -> None:
    imageless = DockerRuntime(replace(config, image="streamax/no-such-image"))

    with pytest.raises(LaunchRefused, match=r"[Nn]o such image"):
        await imageless.launch(order)
    with pytest.raises(LaunchRefused):
        await runtime.launch(replace(order, media_folder=tmp_path / "not-there"))

    assert await runtime.list() == []
    await imageless.close()


async def test_container_that_cannot_be_started_leaves_nothing(
    runtime: DockerRuntime, config: DockerConfig, order: Launch
) -> None:
    # The engine creates it, and looks for its network only when it is to start.
    unconnected = DockerRuntime(replace(config, network="no-such-network"))

    with pytest.raises(LaunchRefused, match="no-such-network"):
        await unconnected.launch(order)

    assert await runtime.list() == []
    await unconnected.close()


async def test_launch_broken_off_before_its_start_is_shown_and_can_be_ended(
    runtime: DockerRuntime, config: DockerConfig, order: Launch
) -> None:
    engine = Engine(config)
    made = await asyncio.to_thread(engine.create, order)
    engine.close()

    (found,) = await runtime.list()
    again = await runtime.launch(order)

    assert (found.id, found.state, found.started_at) == (made, ContainerState.CREATED, None)
    assert (again.id, again.state) == (made, ContainerState.CREATED)
    await runtime.stop(found.id)
    assert await runtime.list() == []


async def test_container_name_of_another_deployment_is_not_taken_for_ours(
    runtime: DockerRuntime, config: DockerConfig, order: Launch
) -> None:
    stranger = DockerRuntime(replace(config, owner=f"{config.owner}-stranger"))
    theirs = await stranger.launch(order)

    with pytest.raises(LaunchRefused, match="another deployment"):
        await runtime.launch(order)

    await stranger.stop(theirs.id)
    await stranger.remove(theirs.id)
    await stranger.close()


async def test_container_with_our_label_and_nonsense_in_the_others_is_passed_over(
    runtime: DockerRuntime, config: DockerConfig, docker_engine: DockerEngine
) -> None:
    labels = {
        "io.streamax.owner": config.owner,
        "io.streamax.session": "no uuid",
        "io.streamax.generation": "1",
    }
    made = docker_engine.client.create_container(config.image, labels=labels)

    assert await runtime.list() == []

    docker_engine.client.remove_container(made["Id"])


async def test_engine_that_hangs_is_unavailable_and_reports_come_again_after(
    config: DockerConfig, proxy: CuttableEngine, order: Launch
) -> None:
    runtime = DockerRuntime(replace(config, call_timeout=2.0))
    launched = await runtime.launch(order)
    before = await delivering(runtime, launched)
    assert before.report is not None

    proxy.freeze()
    with pytest.raises(EngineUnavailable):
        await runtime.list()
    proxy.thaw()

    await delivering(runtime, launched, after=before.report.at)
    await runtime.stop(launched.id)
    await runtime.remove(launched.id)
    await runtime.close()


async def test_stream_of_reports_that_fell_silent_is_opened_anew(
    config: DockerConfig, proxy: CuttableEngine, order: Launch, docker_engine: DockerEngine
) -> None:
    runtime = DockerRuntime(replace(config, call_timeout=3.0))
    launched = await runtime.launch(order)
    await delivering(runtime, launched)
    hints = runtime.hints()

    # Neither the reports nor the engine's events come through any more, and nothing says so.
    proxy.strand()
    await asyncio.to_thread(docker_engine.client.stop, launched.id)

    async with asyncio.timeout(20):
        assert await anext(hints) == order.session_id
    found = await observed(runtime, launched, lambda one: one.state is ContainerState.EXITED)
    assert found.report is not None
    assert found.report.state is State.ENDED
    await runtime.remove(launched.id)
    await runtime.close()


async def test_log_lines_are_found_far_below_the_reports(
    runtime: DockerRuntime, config: DockerConfig, docker_engine: DockerEngine
) -> None:
    wanted = [LogLine(at=float(at), attempt=1, text=f"line {at}") for at in range(3)]
    report = Report(at=9.0, attempt=1, state=State.DELIVERING).to_line()
    program = f"print(*{[line.to_line() for line in wanted]}, *[{report!r}] * 2000, sep='\\n')"
    client = docker_engine.client
    made = client.create_container(
        config.image,
        entrypoint=["python3", "-I", "-S", "-c", program],
        labels={
            "io.streamax.owner": config.owner,
            "io.streamax.session": str(uuid4()),
            "io.streamax.generation": "1",
        },
    )
    client.start(made["Id"])
    client.wait(made["Id"])

    assert await runtime.logs(made["Id"], limit=2) == wanted[1:]
    assert await runtime.logs(made["Id"], limit=100) == wanted
    assert await runtime.logs(made["Id"], limit=0) == []


async def test_encoder_that_hangs_is_killed_in_its_time(
    runtime: DockerRuntime, order: Launch, docker_engine: DockerEngine
) -> None:
    launched = await runtime.launch(order)
    await delivering(runtime, launched)
    await asyncio.to_thread(_stop_signal_to_encoder, docker_engine, launched)

    async with asyncio.timeout(LIMITS.stop_first + LIMITS.stop_second + 2.0 + 4.0):
        await runtime.stop(launched.id)

    (found,) = await runtime.list()
    assert (found.state, found.exit_code) == (ContainerState.EXITED, 137)


def _stop_signal_to_encoder(engine: DockerEngine, container: Container) -> None:
    """SIGSTOP to the supervisor alone; from within, as the test need not be root on the host."""
    command = engine.client.exec_create(container.id, ["python3", "-I", "-S", "-c", _STOP_ENCODER])
    assert b"stopped" in engine.client.exec_start(command["Id"])


_STOP_ENCODER: Final = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    words = open(f"/proc/{pid}/cmdline").read().split("\\0")
    if "python" in words[0] and int(pid) != os.getpid():
        os.kill(int(pid), signal.SIGSTOP)
        print("stopped")
"""
