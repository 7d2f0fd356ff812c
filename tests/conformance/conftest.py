"""The suite runs once per engine; each brings its rig."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cli.suite.sink import Sink
from services.streams.runtime import Runtime
from tests.conformance.rigs import DockerRig, MemoryRig, ProcessRig, Rig
from tests.support.engine import cuttable


@pytest.fixture(params=["memory", "process", "docker"])
def make_rig(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[AsyncExitStack], Awaitable[Rig]]:
    """Asks for what an engine needs before any loop runs, and only for that."""
    need = request.getfixturevalue

    async def memory(stack: AsyncExitStack) -> Rig:
        return MemoryRig()

    async def process(stack: AsyncExitStack) -> Rig:
        return ProcessRig(await stack.enter_async_context(Sink()), media, tmp_path)

    async def docker(stack: AsyncExitStack) -> Rig:
        sink = await stack.enter_async_context(Sink(engine.gateway))
        proxy = await stack.enter_async_context(cuttable(engine, tmp_path))
        return DockerRig(sink, media, engine, proxy, image)

    if request.param == "memory":
        return memory
    media = need("encoder_media")
    if request.param == "process":
        return process
    engine, image = need("docker_engine"), need("encoder_image")
    return docker


@pytest.fixture
async def rig(make_rig: Callable[[AsyncExitStack], Awaitable[Rig]]) -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await make_rig(stack)


@pytest.fixture
async def runtime(rig: Rig) -> AsyncIterator[Runtime]:
    runtime = rig.open()
    yield runtime
    for left in await runtime.list():
        await runtime.stop(left.id)
        await runtime.remove(left.id)
    await runtime.close()
