"""The streams service as operators run it: its own process, its own configuration file."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc

from benchmarks.stage.programs import Program, program
from cli.suite.files import write_secret, write_toml
from services.chassis.vault import Vault
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceStub
from tests.support.database import Database, add_user
from tests.support.tokens import Issuer, bearer

__all__ = ["Service", "streams"]


@dataclass(frozen=True, slots=True)
class Service:
    """A running streams service and whoever may call it."""

    program: Program
    stub: Any
    database: Database
    media: Path
    issuer: Issuer

    async def user(self, sample: Path | None = None, *, streams_allowed: int = 100) -> UUID:
        """A user with a package, and with `sample` as `loop.mp4` in the media folder."""
        async with self.database.connect() as connection:
            user = await add_user(connection, streams_allowed=streams_allowed)
        folder = self.media / str(user)
        folder.mkdir()
        if sample is not None:
            (folder / "loop.mp4").hardlink_to(sample)
        return user

    def calling(self, user: UUID) -> dict[str, Any]:
        """Keyword arguments of a call by this user."""
        return {"metadata": bearer(self.issuer.token(user)), "timeout": 30}


@asynccontextmanager
async def streams(
    folder: Path,
    database: Database,
    *,
    engine: Mapping[str, object],
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Service]:
    """`python -m services streams`, ready, its files in `folder`; `engine` is part of its configuration."""
    issuer = Issuer()
    media = folder / "media"
    media.mkdir(parents=True)
    write_secret(folder / "vault.key", Vault.new_key())
    (folder / "jwks.json").write_text(json.dumps({"keys": list(await issuer.fetch())}))
    config = write_toml(
        folder / "streams.toml",
        {
            "vault_key_file": "vault.key",
            "database": {"url": database.dsn("streamax_streams")},
            "media": {"root": "media"},
            "auth": {"jwks_file": "jwks.json"},
            **engine,
        },
    )
    async with (
        program(
            "services", "streams", "--config", str(config), log=folder / "log", environment=environment
        ) as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        yield Service(running, StreamServiceStub(channel), database, media, issuer)
