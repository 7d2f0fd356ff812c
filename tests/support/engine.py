"""A Docker Engine for tests, and a way to take it away without stopping it."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest
from docker import APIClient
from docker.errors import DockerException

from cli.suite.images import ensure_encoder_image
from cli.suite.media import make_sample

__all__ = ["CuttableEngine", "DockerEngine", "cuttable", "docker_engine", "encoder_image", "encoder_media"]

_DEFAULT: Final = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerEngine:
    """An engine that answered, with what a test needs to know of it."""

    host: str
    #: Address of this machine as containers on the default bridge see it.
    gateway: str
    #: Names what this test run made on it; with anything behind it, too.
    owner: str
    client: APIClient

    @property
    def path(self) -> Path:
        """Of its socket."""
        return Path(self.host.removeprefix("unix://"))


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """The engine of DOCKER_HOST or of the default socket.

    Without one the test is skipped, and in CI it fails: there an engine is promised.
    """
    host = os.environ.get("DOCKER_HOST", _DEFAULT)
    try:
        _knock(host)
        client = APIClient(base_url=host, version="auto", timeout=60)
    except (OSError, DockerException) as error:
        reason = f"no Docker Engine at {host}: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    owner = f"tests-{uuid4()}"
    with contextlib.closing(client):
        address = client.inspect_network("bridge")["IPAM"]["Config"][0]
        # Older engines name no gateway where nobody chose one; it is the first address then.
        gateway = address.get("Gateway") or str(ip_network(address["Subnet"])[1])
        try:
            yield DockerEngine(host=host, gateway=gateway, owner=owner, client=client)
        finally:
            for left in client.containers(all=True, filters={"label": "io.streamax.owner"}):
                if left["Labels"]["io.streamax.owner"].startswith(owner):
                    client.remove_container(left["Id"], force=True)


def _knock(host: str) -> None:
    """Raises OSError where nobody listens. The SDK would leave its socket to the garbage collector then."""
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as knock:
            knock.connect(host.removeprefix("unix://"))


@pytest.fixture(scope="session")
def encoder_image(docker_engine: DockerEngine) -> str:
    """The encoder's image on that engine, built where it is not there yet."""
    return ensure_encoder_image(docker_engine.client)


@pytest.fixture(scope="session")
def encoder_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One owner's folder: `loop.mp4`, and `text.mp4` which is no video.

    Readable by all: in a container the encoder is nobody.
    """
    folder = tmp_path_factory.mktemp("media")
    asyncio.run(make_sample(folder / "loop.mp4", seconds=4, size="320x180"))
    (folder / "text.mp4").write_text("no video at all\n")
    folder.chmod(0o755)
    return folder


class CuttableEngine:
    """A socket of its own before the engine's, which can go dead and come back."""

    def __init__(self, engine: Path, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()

    @property
    def host(self) -> str:
        return f"unix://{self._path}"

    async def heal(self) -> None:
        self._server = await asyncio.start_unix_server(self._relay, self._path)

    async def cut(self) -> None:
        """As if the engine were killed: no listener, every connection broken."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self._path.unlink(missing_ok=True)
        for relay in tuple(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    def freeze(self) -> None:
        """As if the engine hung: every connection stays, and nothing comes through."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def strand(self) -> None:
        """Connections there are stay open and give nothing more; new ones work."""
        self._flows.clear()
        self._flows = asyncio.Event()
        self._flows.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        to_engine: asyncio.StreamWriter | None = None
        try:
            from_engine, to_engine = await asyncio.open_unix_connection(self._engine)
            await asyncio.gather(self._pump(reader, to_engine), self._pump(from_engine, writer))
        except (OSError, asyncio.CancelledError):
            # A connection that ends is what this is for; asyncio reports a cancelled handler as an error.
            return
        finally:
            self._relays.discard(task)
            for end in (writer, to_engine):
                if end is not None:
                    end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until the end, which is passed on as one: an attached container's input ends so."""
        flows = self._flows
        while data := await reader.read(1 << 16):
            await flows.wait()
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def cuttable(engine: DockerEngine, folder: Path) -> AsyncIterator[CuttableEngine]:
    proxy = CuttableEngine(engine.path, folder / "engine.sock")
    await proxy.heal()
    try:
        yield proxy
    finally:
        await proxy.cut()
