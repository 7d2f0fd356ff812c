"""The streams service on each real runtime, pushing to a real nginx."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.suite.images import ensure_encoder_image
from cli.suite.media import ffmpeg
from tests.support import database as support
from tests.support.deployment import Deployment
from tests.support.engine import DockerEngine
from tests.support.nginx import Nginx, nginx


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Nginx]:
    with nginx(tmp_path / "nginx", host="0.0.0.0") as server:
        yield server


@pytest.fixture(params=["process", "docker"])
async def deployment(
    request: pytest.FixtureRequest, database: support.Database, ingest: Nginx, tmp_path: Path, sample: Path
) -> Deployment:
    folder = tmp_path / "deployment"
    folder.mkdir()
    # pytest's folders are private; containers run as somebody else and must pass.
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o711)
    if request.param == "docker":
        engine: DockerEngine = request.getfixturevalue("docker_engine")
        image = await asyncio.to_thread(ensure_encoder_image, engine.client)
        host = engine.gateway
        runtime = {"docker": {"image": image, "owner": engine.owner, "host": engine.host}}
    else:
        host = "127.0.0.1"
        runtime = {"process": {"folder": str(folder / "encoders"), "ffmpeg": ffmpeg()}}
    made = Deployment(
        database=database, nginx=ingest, ingest=ingest.url(host), folder=folder, runtime=runtime
    )
    await made.prepare(sample)
    return made
