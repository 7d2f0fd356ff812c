"""Which engine runs the suite's encoders: Docker where it is there, processes where it is not."""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import docker
from docker.errors import DockerException
from requests import RequestException

from cli.suite.images import ImageUnavailable, ensure_encoder_image
from cli.suite.media import ffmpeg, ffmpeg_version

__all__ = ["Engine", "choose_engine"]

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
#: Seconds an engine may take to answer before it counts as absent.
ANSWER: Final = 5
#: Seconds one step of an image's making may take.
BUILD: Final = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What the streams service is told, and what people are."""

    #: "docker" or "process": the name of its table in the configuration.
    kind: str
    table: dict[str, object]
    #: An address of this machine that encoders can reach.
    sink_host: str
    runtime: str
    ffmpeg: str

    @property
    def embedded(self) -> bool:
        return self.kind == "process"


class _NoEngine(Exception):
    """Docker cannot be used; the text says why."""


async def choose_engine(host: str, *, folder: Path, tell: Callable[[str], None]) -> Engine:
    """Docker at `host` if it answers and has, or can be given, the encoder image.

    `tell` hears a line before what takes long. Cancelled, it ends when that has.
    """
    preparing = asyncio.create_task(asyncio.to_thread(_prepare, host, tell))
    try:
        version, gateway, image = await asyncio.shield(preparing)
    except _NoEngine as reason:
        return Engine(
            kind="process",
            table={"folder": str(folder / "encoders"), "ffmpeg": ffmpeg()},
            sink_host="127.0.0.1",
            runtime=f"plain processes, because {reason}",
            ffmpeg=f"{ffmpeg_version()} from imageio-ffmpeg",
        )
    finally:
        # A thread cannot be interrupted, and an engine builds on.
        if not preparing.done():
            tell("stopping as soon as the engine has done what it was asked for")
        await asyncio.wait([preparing])
    return Engine(
        kind="docker",
        # An owner of its own: the containers of another suite are none of ours.
        table={"image": image, "owner": f"suite-{secrets.token_hex(4)}", "host": host},
        sink_host=gateway,
        runtime=f"Docker Engine {version} at {host}",
        ffmpeg=f"{ffmpeg_version()} from imageio-ffmpeg, in the image {image[:19]}",
    )


def _prepare(host: str, tell: Callable[[str], None]) -> tuple[str, str, str]:
    """The engine's version, our address on its bridge, the encoder image. Raises _NoEngine."""
    if not host.startswith("unix://"):
        raise _NoEngine(f"the engine at {host} may not see this machine's files")
    try:
        with contextlib.closing(docker.APIClient(base_url=host, version="auto", timeout=ANSWER)) as client:
            version = str(client.version()["Version"])
            gateway = _gateway(client.inspect_network("bridge"))
    except (DockerException, RequestException) as error:
        raise _NoEngine(f"no Docker Engine answers at {host}") from error
    try:
        with contextlib.closing(docker.APIClient(base_url=host, version="auto", timeout=BUILD)) as client:
            return version, gateway, ensure_encoder_image(client, tell=tell)
    except ImageUnavailable as error:
        raise _NoEngine(f"there is no encoder image: {error}") from error


def _gateway(network: dict[str, Any]) -> str:
    """Raises _NoEngine where containers could not reach a server of ours there."""
    for pool in network["IPAM"]["Config"] or ():
        # Older engines name no gateway where nobody chose one; it is the first address then.
        address = pool.get("Gateway") or str(ip_network(pool["Subnet"])[1])
        if ip_address(address).version == 4 and _is_ours(address):
            return address
    raise _NoEngine("the bridge of the Docker Engine has no address on this machine")


def _is_ours(address: str) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
