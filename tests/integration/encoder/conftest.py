import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.suite.media import make_sample
from cli.suite.sink import Sink
from encoder.job import Job, Limits
from tests.support.nginx import Nginx, nginx

#: Short, so that a test sees in seconds what takes minutes in life.
LIMITS = Limits(
    stall=2.0,
    give_up=4.0,
    connect=4.0,
    backoff_first=0.1,
    backoff_max=0.4,
    healthy=60.0,
    barren_attempts=2,
    stop_first=3.0,
    stop_second=2.0,
)
KEY = "canary-7f3a91"

MakeJob = Callable[..., Job]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of H.264 and AAC at about 1.9 Mbit/s."""
    return asyncio.run(make_sample(tmp_path_factory.mktemp("media") / "sample.mp4", seconds=6))


@pytest.fixture(scope="session")
def heavy_sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 20 Mbit/s: enough to fill a socket's buffer within seconds."""
    path = tmp_path_factory.mktemp("media") / "heavy.mp4"
    return asyncio.run(make_sample(path, seconds=4, size="1920x1080"))


@pytest.fixture
def job(sample: Path) -> MakeJob:
    """Makes a job that sends the sample; the destination first, anything else by name."""

    def make(destination: str, *, limits: dict[str, float] | None = None, **changes: Any) -> Job:
        short = {name: getattr(LIMITS, name) for name in LIMITS._fields} | (limits or {})
        fields: dict[str, Any] = {
            "session_id": "s-1",
            "generation": 1,
            "source": str(sample),
            "stream_key": KEY,
        }
        return Job(destination=destination, limits=Limits(**short), **(fields | changes))

    return make


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as sink:
        yield sink


@pytest.fixture
def ingest(tmp_path: Path) -> Iterator[Nginx]:
    """nginx-rtmp, which keeps what it receives as files."""
    with nginx(tmp_path / "nginx", record=True) as server:
        yield server
