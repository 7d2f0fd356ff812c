"""Whole streams through real parts: service process, runtime, ffmpeg, and nginx as the judge."""

import asyncio
import time

from docker import APIClient

from streamax.streams.v1 import session_pb2 as session_pb
from tests.support.deployment import Deployment
from tests.support.nginx import Nginx
from tests.support.polling import until

KEY = "canary-5f1e"


async def test_running_is_never_said_before_the_ingest_has_media_and_after_a_stop_nothing_is_left(
    deployment: Deployment, ingest: Nginx
) -> None:
    user = await deployment.user()
    async with deployment.serving() as control:
        session = await control.start(user, KEY)
        assert session.status == session_pb.SESSION_STATUS_STARTING
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_RUNNING)
        assert ingest.publishers(KEY) == 1
        assert ingest.bytes_in(KEY) > 0
        await control.stop(user, session.id)
        stopped = await control.reaches(user, session.id, session_pb.SESSION_STATUS_STOPPED)
        await until(lambda: ingest.publishers(KEY) == 0)
        assert stopped.delivery.acknowledged_bytes > 0
        async with deployment.database.connect() as connection:
            slots = await connection.fetchval("SELECT streams_active FROM public.users WHERE id = $1", user)
            assert slots == 0
            assert await connection.fetchval("SELECT count(*) FROM private.session_secrets") == 0
    assert await left_over(deployment) == []


async def test_a_refused_key_never_runs_and_says_why(deployment: Deployment, ingest: Nginx) -> None:
    ingest.deny(KEY)
    user = await deployment.user()
    async with deployment.serving() as control:
        session = await control.start(user, KEY)
        ended = await control.reaches(user, session.id, session_pb.SESSION_STATUS_ERROR)
        assert ended.cause == session_pb.SESSION_CAUSE_KEY_REJECTED
        assert not ended.HasField("start_time")
        assert KEY not in ended.cause_detail
    assert await left_over(deployment) == []


async def test_a_killed_service_interrupts_nothing_and_its_successor_adopts(
    deployment: Deployment, ingest: Nginx
) -> None:
    user = await deployment.user()
    async with deployment.serving() as control:
        session = await control.start(user, KEY)
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_RUNNING)
        before = await control.get(user, session.id)
        control.kill()
        at_death = ingest.bytes_in(KEY)
    await until(lambda: ingest.bytes_in(KEY) > at_death + 100_000)
    async with deployment.serving() as control:
        begun = time.time()
        adopted = await control.measured_after(user, session.id, begun)
        assert time.time() - begun < 10
        assert adopted.status == session_pb.SESSION_STATUS_RUNNING
        assert (adopted.container_id, adopted.generation) == (before.container_id, before.generation)
        adopted_at = ingest.bytes_in(KEY)
        await until(lambda: ingest.bytes_in(KEY) > adopted_at + 50_000)
        assert len(ingest.publications(KEY)) == 1, "the ingest saw a reconnect"
        await control.stop(user, session.id)
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_STOPPED)
    await until(lambda: ingest.publishers(KEY) == 0)
    assert await left_over(deployment) == []


async def left_over(deployment: Deployment) -> list[str]:
    """Containers, or state folders, of sessions that have ended."""
    if "process" in deployment.runtime:
        return [str(path) for path in (deployment.folder / "encoders").glob("*") if path.is_dir()]
    return await asyncio.to_thread(_containers, deployment)


def _containers(deployment: Deployment) -> list[str]:
    table = deployment.runtime["docker"]
    client = APIClient(base_url=str(table["host"]), version="auto")
    found = client.containers(all=True, filters={"label": f"io.streamax.owner={table['owner']}"})
    client.close()
    return [str(one["Names"]) for one in found]
