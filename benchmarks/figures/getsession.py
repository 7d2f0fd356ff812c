"""`getsession`: one authenticated read of one row, under load, against the same without a chassis."""

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import grpc

from benchmarks.figure import Bar, Quantity, Reading, Sides
from benchmarks.stage import load
from benchmarks.stage.collector import collecting
from benchmarks.stage.database import cluster, migrated
from benchmarks.stage.programs import Program, program
from benchmarks.stage.service import Service, streams
from benchmarks.stage.usage import cpu_seconds
from streamax.streams.v1 import stream_service_pb2
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceStub
from tests.support.database import Database

__all__ = ["GetSession"]

_METHOD: Final = "/streamax.streams.v1.StreamService/GetSession"
#: Seconds of load per round.
_SECONDS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GetSession:
    """Throughput and latency of GetSession with a share of the calls traced."""

    name: str
    #: OTEL_TRACES_SAMPLER and its argument.
    sampler: str
    argument: str = ""
    #: Of the floor's throughput; and its inverse, of the floor's latency.
    share: float
    rounds: int = 7

    @property
    def title(self) -> str:
        traced = f"{float(self.argument):.0%} of the calls traced" if self.argument else "every call traced"
        return f"GetSession over gRPC, {traced}"

    ours: str = (
        "StreamService.GetSession of `python -m services streams`, one worker: ES256 token verified, request "
        "validated, access log written to a file, row-level security on, spans exported by OTLP"
    )
    floor: str = (
        "a bare grpc.aio handler on uvloop: one asyncpg point read of the same row by primary key, over a "
        "pool without reset, the same message"
    )

    @property
    def quantities(self) -> Sequence[Quantity]:
        return (
            Quantity(
                name=self.name,
                title="Throughput, 32 calls in flight",
                unit="requests/s",
                bar=Bar(ratio=self.share, at_least=True),
            ),
            Quantity(
                name=f"{self.name}_p99",
                title="Latency that 99 % of calls stay below",
                unit="ms",
                bar=Bar(ratio=1 / self.share),
            ),
        )

    @asynccontextmanager
    async def sides(self) -> AsyncIterator[Sides]:
        load.require()
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamax-bench-")))
            folder.chmod(0o711)
            server = await stack.enter_async_context(cluster(folder))
            database = await stack.enter_async_context(migrated(server))
            collector = await stack.enter_async_context(collecting(folder))
            environment = collector.environment(sampler=self.sampler, argument=self.argument)
            service = await stack.enter_async_context(
                streams(folder / "streams", database, engine={"simulate": True}, environment=environment)
            )
            bare = await stack.enter_async_context(
                program("benchmarks.floors.getsession", database.admin_dsn, log=folder / "floor.log")
            )
            call = await _call(service, bare.address, await _session(service))

            async def ours() -> Reading:
                before = await collector.spans()
                reading = await self._round(service.program, call, folder)
                return reading | {"spans": await collector.spans() - before}

            async def floor() -> Reading:
                return await self._round(bare, call, folder)

            # Pools, caches and the plans of prepared statements come with the first calls.
            await ours()
            await floor()
            yield Sides(ours=ours, floor=floor, facts=await _facts(database))

    async def _round(self, server: Program, call: load.Call, folder: Path) -> dict[str, float]:
        before = cpu_seconds(server.pid)
        run = await load.load(server.address, call, seconds=_SECONDS, folder=folder)
        return {
            self.name: run.per_second,
            f"{self.name}_p99": run.p99,
            "p50_ms": run.p50,
            "requests": run.requests,
            "server_cpu_us_per_request": (cpu_seconds(server.pid) - before) / run.requests * 1e6,
        }


async def _call(service: Service, floor: str, session: tuple[UUID, UUID]) -> load.Call:
    """The call of both sides. Real clients have made it before: both give the same, right answer."""
    session_id, user = session
    request = stream_service_pb2.GetSessionRequest(session_id=str(session_id))
    calling = service.calling(user)
    answer = await service.stub.GetSession(request, **calling)
    async with grpc.aio.insecure_channel(floor) as channel:
        bare = await StreamServiceStub(channel).GetSession(request)
    if not (answer == bare and answer.id == str(session_id)):
        raise load.LoadFailed(f"the two sides answer differently:\n{answer}\n{bare}")
    return load.Call(
        path=_METHOD,
        request=request.SerializeToString(),
        response=answer.SerializeToString(),
        metadata=calling["metadata"],
    )


async def _session(service: Service) -> tuple[UUID, UUID]:
    """A session and its owner, among some thousand others, all ended."""
    users = [await service.user() for _ in range(_USERS)]
    async with service.database.connect() as connection, connection.transaction():
        await connection.execute(_SESSIONS, users, _SESSIONS_EACH)
        await connection.execute(_STOPPING, "c" * 64)
        await connection.execute(_STOPPED)
        row = await connection.fetchrow("SELECT id, user_id FROM public.stream_sessions LIMIT 1 OFFSET 1000")
    assert row is not None
    async with service.database.connect() as connection:
        await connection.execute("VACUUM ANALYZE public.stream_sessions")
    return row["id"], row["user_id"]


_USERS: Final = 100
_SESSIONS_EACH: Final = 20

_SESSIONS: Final = """
INSERT INTO public.stream_sessions
       (user_id, rtmp_url, video_source, status, desired_status, generation, slot_held, target_hash)
SELECT owner, 'rtmp://a.rtmp.youtube.com/live2', 'loop.mp4', 'starting', 'running', 1, true,
       uuid_send(gen_random_uuid())
  FROM unnest($1::uuid[]) AS owner, generate_series(1, $2)
"""
# One after the other, as a session goes.
_STOPPING: Final = """
UPDATE public.stream_sessions
   SET status = 'stopping', desired_status = 'stopped', cause = 'user', started_at = now(), revision = 3,
       container_id = $1 || id
"""
_STOPPED: Final = """
UPDATE public.stream_sessions SET status = 'stopped', slot_held = false, stopped_at = now(), revision = 4
"""


async def _facts(database: Database) -> Mapping[str, str]:
    async with database.connect() as connection:
        version = await connection.fetchval("SHOW server_version")
    return {
        "database": f"PostgreSQL {version} over a unix socket, {_USERS * _SESSIONS_EACH} sessions",
        "load": f"h2load, 4 connections with 8 calls in flight each, {_SECONDS} s a round",
    }
