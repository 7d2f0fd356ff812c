"""The floor of `getsession`: `python -m benchmarks.floors.getsession DSN`.

One grpc.aio handler on uvloop, one point read by primary key over a pool of
asyncpg, one message. No token, no validation, no log, no trace, no row-level
security. The pool spares the round trip of asyncpg's reset on release, which
would make the floor easier to meet.
"""

import asyncio
import json
import signal
import sys
from typing import Any, Final

import asyncpg
import grpc
import uvloop

from streamax.streams.v1 import session_pb2, stream_service_pb2

#: As many as the service has by default.
_POOL: Final = 10

_READ: Final = """
SELECT id, user_id, rtmp_url, video_source, status, desired_status, cause, cause_detail, container_id,
       generation, revision, created_at, started_at, stopped_at
  FROM public.stream_sessions WHERE id = $1
"""
#: The one session that is asked for has ended because its user wished so.
_STATUS: Final = {"stopped": session_pb2.SESSION_STATUS_STOPPED}
_CAUSE: Final = {"user": session_pb2.SESSION_CAUSE_USER}


def handlers(pool: Any) -> grpc.GenericRpcHandler:
    """GetSession and nothing else."""

    async def get_session(request: stream_service_pb2.GetSessionRequest, _: object) -> session_pb2.Session:
        row = await pool.fetchrow(_READ, request.session_id)
        return session_pb2.Session(
            id=str(row["id"]),
            user_id=str(row["user_id"]),
            rtmp_url=row["rtmp_url"],
            video_source=row["video_source"],
            status=_STATUS[row["status"]],
            desired_status=_STATUS[row["desired_status"]],
            cause=_CAUSE[row["cause"]],
            cause_detail=row["cause_detail"],
            container_id=row["container_id"],
            generation=row["generation"],
            create_time=row["created_at"],
            start_time=row["started_at"],
            stop_time=row["stopped_at"],
            revision=row["revision"],
            etag=f'"{row["revision"]}"',
        )

    handler = grpc.unary_unary_rpc_method_handler(
        get_session,
        request_deserializer=stream_service_pb2.GetSessionRequest.FromString,
        response_serializer=session_pb2.Session.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("streamax.streams.v1.StreamService", {"GetSession": handler})


async def serve(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=_POOL, max_size=_POOL, reset=_no_reset) as pool:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handlers(pool),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
        print(json.dumps({"message": "ready", "address": f"127.0.0.1:{port}"}), flush=True)
        await stopping.wait()
        await server.stop(None)


async def _no_reset(_: object) -> None:
    return None


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
