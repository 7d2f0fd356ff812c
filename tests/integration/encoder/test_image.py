"""The encoder in its image, in a container as hard as the service makes them."""

import asyncio
import contextlib
import os
import signal
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from encoder.job import Job
from encoder.report import Cause, Report, State, parse
from tests.support.engine import DockerEngine
from tests.support.nginx import Nginx, nginx

KEY = "canary-7f3a91"
MEGABYTE = 1_000_000

MakeJob = Callable[..., Job]


@dataclass(slots=True)
class Encoder:
    """A running container of it."""

    engine: DockerEngine
    id: str

    def inspect(self) -> dict[str, Any]:
        return dict(self.engine.client.inspect_container(self.id))

    @property
    def running(self) -> bool:
        return bool(self.inspect()["State"]["Running"])

    def text(self) -> str:
        return bytes(self.engine.client.logs(self.id)).decode()

    async def report(self, wanted: Callable[[Report], bool]) -> Report:
        """The first report that fits, of all."""
        return await asyncio.to_thread(self._look, wanted)

    def _look(self, wanted: Callable[[Report], bool]) -> Report:
        # Asked again and again: the SDK's streams leave their sockets to the garbage collector.
        until = time.monotonic() + 30
        while time.monotonic() < until:
            running = self.running
            for line in self.text().splitlines():
                report = parse(line)
                if isinstance(report, Report) and wanted(report):
                    return report
            if not running:
                break
            time.sleep(0.1)
        raise AssertionError(f"the encoder never said so; all it wrote:\n{self.text()}")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Nginx]:
    """nginx-rtmp where containers can reach it."""
    with nginx(tmp_path / "nginx", host="0.0.0.0") as server:
        yield server


@pytest.fixture
def start(
    docker_engine: DockerEngine, encoder_image: str, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Job], Encoder]]:
    """Starts containers with a job in a secret file; they are removed afterwards."""
    client = docker_engine.client
    started: list[str] = []
    secrets = tmp_path_factory.mktemp("jobs")
    # Inside, the encoder is nobody.
    for folder in (sample.parent, sample.parent.parent, secrets):
        folder.chmod(0o755)

    def run(job: Job) -> Encoder:
        secret = secrets / str(len(started))
        secret.write_text(job.to_json())
        made = client.create_container(
            encoder_image,
            ["--job", "/run/secrets/job"],
            labels={"io.streamax.owner": docker_engine.owner},
            host_config=client.create_host_config(
                binds={
                    str(sample.parent): {"bind": "/media", "mode": "ro"},
                    str(secret): {"bind": "/run/secrets/job", "mode": "ro"},
                },
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                pids_limit=64,
                mem_limit="128m",
                memswap_limit="128m",
                extra_hosts={"ingest.test": docker_engine.gateway},
            ),
        )
        started.append(made["Id"])
        client.start(made["Id"])
        return Encoder(docker_engine, made["Id"])

    yield run
    for one in started:
        client.remove_container(one, force=True)


@pytest.fixture
def contained(job: MakeJob, sample: Path, docker_engine: DockerEngine) -> MakeJob:
    """Jobs as seen from inside a container."""

    def make(server: Nginx, *, host: str = docker_engine.gateway, **changes: Any) -> Job:
        return job(server.url(host), **({"source": f"/media/{sample.name}"} | changes))

    return make


async def test_media_is_delivered_from_a_hardened_container(
    outside: Nginx, start: Callable[[Job], Encoder], contained: MakeJob
) -> None:
    async with asyncio.timeout(60):
        encoder = await asyncio.to_thread(start, contained(outside))
        # From here on delivery is what the kernel told a process without any privilege.
        report = await encoder.report(lambda report: report.delivered_seconds >= 2)
        assert outside.bytes_in(KEY) > 0
        assert report.acknowledged_bytes == pytest.approx(outside.bytes_in(KEY), rel=0.5)
        await asyncio.to_thread(encoder.engine.client.stop, encoder.id, 8)
        state = encoder.inspect()["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
        await asyncio.to_thread(outside.until, lambda server: server.publishers(KEY) == 0)
        last = parse(encoder.text().splitlines()[-1])
        assert isinstance(last, Report)
        assert (last.state, last.cause) == (State.ENDED, None)


async def test_names_are_resolved_in_the_container(
    outside: Nginx, start: Callable[[Job], Encoder], contained: MakeJob
) -> None:
    async with asyncio.timeout(60):
        encoder = await asyncio.to_thread(start, contained(outside, host="ingest.test"))
        await encoder.report(lambda report: report.state is State.DELIVERING)
        unknown = await asyncio.to_thread(start, contained(outside, host="no-such-host.invalid"))
        report = await unknown.report(lambda report: report.cause is not None)
        assert (report.cause, "name" in report.detail) == (Cause.NETWORK, True)


async def test_nothing_lives_on_in_a_container_whose_supervisor_is_killed(
    outside: Nginx, start: Callable[[Job], Encoder], contained: MakeJob
) -> None:
    async with asyncio.timeout(60):
        encoder = await asyncio.to_thread(start, contained(outside))
        await encoder.report(lambda report: report.state is State.DELIVERING)
        os.kill(encoder.inspect()["State"]["Pid"], signal.SIGKILL)
        await asyncio.to_thread(outside.until, lambda server: server.publishers(KEY) == 0)
        await asyncio.to_thread(encoder.engine.client.wait, encoder.id)
        assert not encoder.running


async def test_the_engine_never_learns_the_key(
    outside: Nginx, start: Callable[[Job], Encoder], contained: MakeJob
) -> None:
    outside.deny(KEY)
    async with asyncio.timeout(60):
        encoder = await asyncio.to_thread(start, contained(outside))
        report = await encoder.report(lambda report: report.cause is not None)
        assert report.cause is Cause.KEY_REJECTED
        assert KEY not in str(encoder.inspect())
        assert KEY not in encoder.text()


def test_the_image_holds_what_it_needs_and_no_more(docker_engine: DockerEngine, encoder_image: str) -> None:
    client = docker_engine.client
    # types-docker leaves this call untyped.
    found = client.inspect_image(encoder_image)  # type: ignore[no-untyped-call]
    assert found["Size"] < 320 * MEGABYTE
    assert found["Config"]["User"] == "65534:65534"
    made = client.create_container(encoder_image, labels={"io.streamax.owner": docker_engine.owner})
    try:
        with tempfile.TemporaryFile() as file, contextlib.closing(client.export(made["Id"])) as content:
            for chunk in content:
                file.write(chunk)
            file.seek(0)
            with tarfile.open(fileobj=file) as tar:
                entries = {one.name: one for one in tar.getmembers()}
    finally:
        client.remove_container(made["Id"], force=True)
    programs = {name for name, one in entries.items() if one.isfile() and "/bin/" in f"/{name}"}
    assert programs == {"usr/bin/ffmpeg", "usr/bin/python3"}, "no shell, no package manager"
    assert entries["etc/ssl/certs/ca-certificates.crt"].size > 100_000
    assert not [name for name, one in entries.items() if one.mode & 0o6000], "nothing set-uid"
    ours = [name for name in entries if name.startswith("usr/lib/encoder/") and name.endswith(".pyc")]
    assert ours, "compiled now, or at every start"


def test_an_image_that_is_there_is_not_built_again(docker_engine: DockerEngine, encoder_image: str) -> None:
    from cli.suite.images import ensure_encoder_image

    steps: list[str] = []
    assert ensure_encoder_image(docker_engine.client, tell=steps.append) == encoder_image
    assert steps == []
