"""The streams service in this process, on a port of its own, as its callers see it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest

from cli.suite.media import make_sample
from services.chassis.auth import AuthConfig
from services.chassis.database import DatabaseConfig
from services.chassis.server import ServerConfig
from services.chassis.vault import Vault
from services.streams.config import Config, MediaConfig
from services.streams.main import serving
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceStub
from tests.support import database as support
from tests.support.tokens import Issuer, bearer

#: Admitted by the default allow-list; the simulated engine connects nowhere.
INGEST = "rtmp://a.rtmp.youtube.com/live2"


@dataclass(frozen=True, slots=True)
class Client:
    """A stub, whoever may call it, and what lies behind it."""

    streams: Any
    issuer: Issuer
    media: Path
    database: support.Database
    port: int

    async def user(self, **columns: object) -> UUID:
        """A user with a package and a media folder that holds `loop.mp4`."""
        async with self.database.connect() as connection:
            user = await support.add_user(connection, **columns)  # type: ignore[arg-type]  # add_user's own keywords
        (self.media / str(user)).mkdir()
        (self.media / str(user) / "loop.mp4").hardlink_to(self.media / "sample.mp4")
        return user

    def calling(self, user: UUID) -> dict[str, Any]:
        """Keyword arguments of a call by this user."""
        return {"metadata": bearer(self.issuer.token(user)), "timeout": 20}


def config_for(database: support.Database, folder: Path, **changes: Any) -> Config:
    """A streams service over the simulated engine, its files in `folder`."""
    key_file = folder / "vault.key"
    if not key_file.exists():
        key_file.write_text(Vault.new_key())
        key_file.chmod(0o600)
    media = folder / "media"
    media.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "server": ServerConfig(),
        "database": DatabaseConfig(url=database.dsn("streamax_streams")),
        "media": MediaConfig(root=media),
        "vault_key_file": key_file,
        "auth": AuthConfig(jwks_file=folder / "jwks.json"),
        "simulate": not {"docker", "process"} & changes.keys(),
    }
    return Config(**(values | changes))


@asynccontextmanager
async def client_of(config: Config, database: support.Database, *, issuer: Issuer) -> AsyncIterator[Client]:
    """A streams service and a channel to it."""
    assert config.auth.jwks_file is not None
    config.auth.jwks_file.write_text(json.dumps({"keys": list(await issuer.fetch())}))
    async with (
        serving(config) as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        yield Client(StreamServiceStub(channel), issuer, config.media.root, database, server.port)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some seconds of H.264 and AAC."""
    path = tmp_path_factory.mktemp("sample") / "sample.mp4"
    support.complete(make_sample(path, seconds=4))
    return path


@pytest.fixture
async def streams(database: support.Database, tmp_path: Path, sample: Path) -> AsyncIterator[Client]:
    """A running streams service over the simulated engine."""
    config = config_for(database, tmp_path)
    (config.media.root / "sample.mp4").write_bytes(sample.read_bytes())
    async with client_of(config, database, issuer=Issuer()) as client:
        yield client
