"""The streams service as a process of its own, over a real runtime, pushing to a real nginx."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc

from cli.suite.services import Service, serving
from services.chassis.vault import Vault
from streamax.streams.v1 import session_pb2 as session_pb
from streamax.streams.v1 import stream_service_pb2 as pb
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceStub
from tests.support import database as support
from tests.support.nginx import Nginx
from tests.support.tokens import Issuer, bearer


@dataclass(kw_only=True)
class Deployment:
    """One streams service, which can be killed and started again; its encoders live on."""

    database: support.Database
    nginx: Nginx
    #: Where encoders reach nginx.
    ingest: str
    folder: Path
    #: The `docker` or `process` table of the configuration.
    runtime: Mapping[str, Mapping[str, object]]
    environment: Mapping[str, str] = field(default_factory=dict)
    issuer: Issuer = field(default_factory=Issuer)

    @property
    def media(self) -> Path:
        return self.folder / "media"

    async def prepare(self, sample: Path) -> None:
        """Key files, and the sample for users to come."""
        (self.folder / "vault.key").write_text(Vault.new_key())
        (self.folder / "vault.key").chmod(0o600)
        (self.folder / "jwks.json").write_text(json.dumps({"keys": list(await self.issuer.fetch())}))
        self.media.mkdir()
        # Encoders in containers are somebody else; they pass through to one user's folder.
        self.media.chmod(0o711)
        (self.media / "sample.mp4").write_bytes(sample.read_bytes())

    async def user(self, **columns: object) -> UUID:
        """A user with a package and `loop.mp4`."""
        async with self.database.connect() as connection:
            user = await support.add_user(connection, **columns)  # type: ignore[arg-type]  # its own keywords
        (self.media / str(user)).mkdir()
        (self.media / str(user)).chmod(0o755)
        (self.media / str(user) / "loop.mp4").write_bytes((self.media / "sample.mp4").read_bytes())
        return user

    def config(self) -> dict[str, object]:
        """What the service is told."""
        return {
            "vault_key_file": str(self.folder / "vault.key"),
            "destinations": [self.ingest.rpartition("/")[0]],
            "database": {"url": self.database.dsn("streamax_streams")},
            "media": {"root": str(self.media)},
            "auth": {"jwks_file": str(self.folder / "jwks.json")},
            **self.runtime,
        }

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Control"]:
        """The service in one process, ready; drained at the end unless it was killed before."""
        logs = self.folder / f"run-{uuid4().hex[:8]}"
        logs.mkdir()
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        async with AsyncExitStack() as stack:
            service = await stack.enter_async_context(
                serving(
                    "streams", self.config(), folder=logs, environment=environment | dict(self.environment)
                )
            )
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(service.address))
            yield Control(self, StreamServiceStub(channel), service)


@dataclass
class Calls:
    """What a user can ask of the running service."""

    deployment: Deployment
    stub: Any

    def calling(self, user: UUID) -> dict[str, Any]:
        return {"metadata": bearer(self.deployment.issuer.token(user)), "timeout": 50}

    async def start(self, user: UUID, key: str) -> session_pb.Session:
        request = pb.StartStreamRequest(
            video_source="loop.mp4", rtmp_url=self.deployment.ingest, stream_key=key
        )
        session: session_pb.Session = await self.stub.StartStream(request, **self.calling(user))
        return session

    async def stop(self, user: UUID, session_id: str) -> None:
        await self.stub.StopStream(pb.StopStreamRequest(session_id=session_id), **self.calling(user))

    async def get(self, user: UUID, session_id: str) -> session_pb.Session:
        session: session_pb.Session = await self.stub.GetSession(
            pb.GetSessionRequest(session_id=session_id), **self.calling(user)
        )
        return session

    async def reaches(self, user: UUID, session_id: str, *statuses: int) -> session_pb.Session:
        """The session as soon as it is shown with one of these statuses."""
        async for event in self.stub.WatchSessions(pb.WatchSessionsRequest(), **self.calling(user)):
            session: session_pb.Session = event.change.session
            if session.id == session_id and session.status in statuses:
                return session
        raise AssertionError("the watch ended")

    async def eventually_answers(self, user: UUID) -> None:
        """Returns as soon as calls are answered again."""
        async with asyncio.timeout(30):
            while True:
                try:
                    await self.stub.ListSessions(pb.ListSessionsRequest(), **self.calling(user))
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.UNAVAILABLE:
                        raise
                    await asyncio.sleep(0.1)
                else:
                    return

    async def measured_after(self, user: UUID, session_id: str, moment: float) -> session_pb.Session:
        """The session once its delivery was measured after this Unix time."""
        async with asyncio.timeout(30):
            while True:
                session = await self.get(user, session_id)
                if session.delivery.measure_time.ToMicroseconds() / 1e6 > moment:
                    return session
                await asyncio.sleep(0.1)


@dataclass
class Control(Calls):
    """The service in a process of its own, and what a fault can do to it."""

    service: Service

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        os.kill(self.service.pid, signal.SIGKILL)
