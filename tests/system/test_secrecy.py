"""The stream key, followed through a whole run: it is where it must be and nowhere else."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from docker import APIClient

from cli.suite.postgres import packaged_binaries
from streamax.streams.v1 import session_pb2 as session_pb
from streamax.streams.v1 import stream_service_pb2 as pb
from tests.support.deployment import Control, Deployment
from tests.support.nginx import Nginx
from tests.support.otlp import collecting

KEY = "canary-8c2f-77aa"


def processes_with(text: str) -> Iterator[tuple[str, str]]:
    """(executable, which file) of every process whose argv or environment holds the text."""
    for folder in Path("/proc").glob("[0-9]*"):
        for file in ("cmdline", "environ"):
            try:
                if text.encode() in (folder / file).read_bytes():
                    yield (folder / "exe").readlink().name, file
            except OSError:
                # It ended meanwhile, or is not ours to read.
                continue


async def refusals(control: Control, deployment: Deployment) -> str:
    """What callers are told when a start with this key is refused, in several ways."""
    texts = []
    poor = await deployment.user(streams_allowed=0)
    rich = await deployment.user()
    for user, changes in (
        (poor, {}),
        (rich, {"video_source": "missing.mp4"}),
        (rich, {"rtmp_url": f"http://example.com/live2/{KEY}"}),
        (rich, {"stream_key": f"{KEY} with a space"}),
        (rich, {"rtmp_url": f"{deployment.ingest}/{KEY}/{KEY}?{KEY}"}),
    ):
        values = {"video_source": "loop.mp4", "rtmp_url": deployment.ingest, "stream_key": KEY}
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await control.stub.StartStream(
                pb.StartStreamRequest(**(values | changes)), **control.calling(user)
            )
        texts.append(f"{caught.value!r} {caught.value.trailing_metadata()!r}")
    return "\n".join(texts)


async def test_the_key_is_in_ffmpegs_own_argv_and_nowhere_else(deployment: Deployment, ingest: Nginx) -> None:
    async with collecting() as collector:
        deployment.environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_TRACES_SAMPLER": "always_on",
        }
        found = await everything(deployment, ingest)
    assert collector.named("streamax.streams.v1.StreamService/StartStream"), "spans must have been sent"
    for what, text in {**found, "traces": str(collector.spans)}.items():
        assert KEY not in text, what
        assert KEY.encode().hex() not in text, what


async def everything(deployment: Deployment, ingest: Nginx) -> dict[str, str]:
    """All that a run leaves in words, by where it was found."""
    user = await deployment.user()
    async with deployment.serving() as control:
        session = await control.start(user, KEY)
        running = await control.reaches(user, session.id, session_pb.SESSION_STATUS_RUNNING)
        holders = set(await asyncio.to_thread(lambda: list(processes_with(KEY))))
        assert holders, "the scan must see ffmpeg, or it sees nothing"
        assert {(name.split("-")[0], file) for name, file in holders} == {("ffmpeg", "cmdline")}
        told = await refusals(control, deployment)
        engine = await asyncio.to_thread(inspection, deployment, running.container_id)
        dump = await asyncio.to_thread(dumped, deployment.database.admin_dsn)
        ingest.drop_publisher(KEY)
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_STARTING)
        failed = await control.get(user, session.id)
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_RUNNING)
        output = await asyncio.to_thread(inspection, deployment, running.container_id)
        await control.stop(user, session.id)
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_STOPPED)
        log = control.service.log
    assert str(session.id) in dump, "the dump must be of this database"
    assert "StartStream" in log.read_text()
    return {
        "answers": f"{session} {running} {failed}",
        "refusals": told,
        "engine's inspection and logs": engine + output,
        "database dump": dump,
        "service log": log.read_text(),
    }


def inspection(deployment: Deployment, container_id: str) -> str:
    """All that the engine, or the state folder, tells of a container."""
    if "process" in deployment.runtime:
        folder = Path(str(deployment.runtime["process"]["folder"]))
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert files, "the state folder must hold something"
        return "\n".join(path.read_text(errors="replace") for path in files)
    client = APIClient(base_url=str(deployment.runtime["docker"]["host"]), version="auto")
    told = json.dumps(client.inspect_container(container_id)) + client.logs(container_id).decode()
    client.close()
    return told


def dumped(dsn: str) -> str:
    """The whole database as SQL."""
    command = [str(packaged_binaries() / "pg_dump"), "--dbname", dsn]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
