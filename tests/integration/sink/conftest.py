from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cli.suite.media import make_sample
from cli.suite.sink import Sink


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await make_sample(tmp_path_factory.mktemp("media") / "sample.mp4", seconds=4, size="320x180")


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with Sink() as sink:
        yield sink
