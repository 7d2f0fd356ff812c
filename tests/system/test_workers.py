"""Several processes serve one port; one of them leads, and another takes over."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from cli.suite.files import write_toml
from streamax.streams.v1 import session_pb2 as session_pb
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceStub
from tests.support.deployment import Calls, Deployment
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.process import free_port, service_process

KEY = "canary-workers"
WORKERS = 3
#: Connections enough that the kernel gives some to every worker.
CONNECTIONS = 16


@asynccontextmanager
async def workers(deployment: Deployment) -> AsyncIterator[Sequence[Calls]]:
    """The same service over as many connections."""
    port = free_port()
    config = {**deployment.config(), "workers": WORKERS, "server": {"port": port}}
    path = write_toml(deployment.folder / "streams.toml", config)
    async with service_process("streams", path), AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(
                grpc.aio.insecure_channel(
                    f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
                )
            )
            for _ in range(CONNECTIONS)
        ]
        yield [Calls(deployment, StreamServiceStub(channel)) for channel in channels]


async def leader(deployment: Deployment) -> tuple[int, int]:
    """(epoch, process id) of the one that leads."""
    async with deployment.database.connect() as connection:
        row = await connection.fetchrow(
            "SELECT epoch, holder FROM private.leaderships WHERE name = 'streams'"
        )
    assert row is not None
    return row["epoch"], int(row["holder"].rpartition(":")[2])


@pytest.mark.parametrize("deployment", ["process"], indirect=True)
async def test_the_leading_worker_dies_and_the_stream_does_not_notice(
    deployment: Deployment, ingest: Nginx
) -> None:
    user = await deployment.user()
    async with workers(deployment) as connections:
        session = await connections[0].start(user, KEY)
        # Whichever worker a watch is with, the news reaches it.
        await asyncio.gather(
            *(one.reaches(user, session.id, session_pb.SESSION_STATUS_RUNNING) for one in connections)
        )
        epoch, pid = await leader(deployment)
        os.kill(pid, signal.SIGKILL)
        died = time.time()
        survivor = await answering(connections)
        await survivor.measured_after(user, session.id, died + 1)
        assert time.time() - died < 15
        assert (await leader(deployment))[0] == epoch + 1
        assert len(ingest.publications(KEY)) == 1, "the ingest saw a reconnect"
        await survivor.stop(user, session.id)
        await survivor.reaches(user, session.id, session_pb.SESSION_STATUS_STOPPED)
    await until(lambda: ingest.publishers(KEY) == 0)


async def answering(connections: Sequence[Calls]) -> Calls:
    """One whose worker lives; those of the dead one reconnect, to whichever."""
    for one in connections:
        try:
            await one.get(await one.deployment.user(), "00000000-0000-4000-8000-000000000000")
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return one
    raise AssertionError("no worker answers")
