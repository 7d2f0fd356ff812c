"""The edge to a Docker Engine: blocking calls, its errors and dicts turned into ours.

Nothing here knows asyncio or keeps state of containers; `docker.py` does.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from math import ceil
from threading import Lock
from typing import Any, Final, Self
from uuid import UUID

import requests
import urllib3
from docker import APIClient
from docker.errors import APIError, DockerException
from docker.types import LogConfig, Mount, Ulimit

from encoder.job import Job
from services.streams.runtime import (
    Container,
    ContainerState,
    EngineUnavailable,
    Launch,
    LaunchRefused,
)
from services.streams.runtime.docker_config import DockerConfig

__all__ = ["Engine", "NotOurs", "Stream"]

OWNER: Final = "io.streamax.owner"
SESSION: Final = "io.streamax.session"
GENERATION: Final = "io.streamax.generation"

#: Where the owner's media folder is seen inside a container.
MEDIA: Final = "/media"

_STATES: Final = {
    "created": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "removing": ContainerState.EXITED,
    "exited": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
}


class NotOurs(LaunchRefused):
    """There is such a container, and another deployment's labels are on it."""


class Engine:
    """Every method blocks, and raises EngineUnavailable when the engine does not answer."""

    def __init__(self, config: DockerConfig) -> None:
        self._config = config
        self._lock = Lock()
        self._client: APIClient | None = None

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def create(self, order: Launch) -> str | None:
        """Its id; None where a container of that name exists. Raises LaunchRefused."""
        try:
            with self._asking("create a container") as client:
                made = client.create_container(
                    self._config.image,
                    name=container_name(order.session_id, order.generation),
                    labels={
                        OWNER: self._config.owner,
                        SESSION: str(order.session_id),
                        GENERATION: str(order.generation),
                    },
                    user=self._config.user,
                    # Open until the first client detaches (StdinOnce): that is how the job arrives.
                    stdin_open=True,
                    # The encoder's own patience with ffmpeg, and two seconds to say farewell.
                    stop_timeout=ceil(order.limits.stop_first + order.limits.stop_second) + 2,
                    host_config=self._host_config(client, order),
                )
        except APIError as error:
            if error.status_code == 409:
                return None
            raise LaunchRefused(_explain(error)) from error
        return str(made["Id"])

    def start(self, container_id: str, job: Job) -> None:
        """Hands the job over, then starts the container. Raises LaunchRefused.

        In this order because the engine keeps the bytes until the program reads
        them: the encoder finds its job waiting and no round trip comes after the
        start. A container whose start never comes holds no job, as the engine
        forgets the bytes with it.
        """
        try:
            with (
                self._asking("start a container") as client,
                self._attached(client, container_id) as channel,
            ):
                channel.sendall(job.to_json().encode() + b"\n")
                channel.shutdown(socket.SHUT_WR)
                client.start(container_id)
        except APIError as error:
            if error.status_code == 409 or "no such container" in _explain(error).lower():
                raise EngineUnavailable(f"removed before its start: {_explain(error)}") from error
            raise LaunchRefused(_explain(error)) from error

    @contextmanager
    def _attached(self, client: APIClient, container_id: str) -> Iterator[socket.socket]:
        """The container's standard input."""
        # Not the SDK's attach_socket: it waits for ever on an engine that hangs.
        response = client.post(
            f"{client.base_url}/v{client.api_version}/containers/{container_id}/attach",
            params={"stdin": 1, "stream": 1},
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            stream=True,
            timeout=self._config.call_timeout,
        )
        with response:
            response.raise_for_status()
            with socket.socket(fileno=os.dup(response.raw.fileno())) as channel:
                channel.settimeout(self._config.call_timeout)
                yield channel

    def inspect(self, container: str) -> Container | None:
        """By id or name, whole but for the report; None where there is none. Raises NotOurs."""
        try:
            with self._asking("inspect a container") as client:
                found = client.inspect_container(container)
        except APIError:
            return None
        ours = self._container(found["Id"], found["Config"]["Labels"] or {}, found["State"])
        if ours is None:
            raise NotOurs(f"{container}: a container of another deployment")
        return ours

    def list(self) -> "list[Container]":
        """All of ours; started_at and exit_code are not in the engine's list."""
        filters = {"label": [f"{OWNER}={self._config.owner}", SESSION, GENERATION]}
        with self._asking("list containers", every_error=True) as client:
            rows = client.containers(all=True, filters=filters)
        found = (self._container(row["Id"], row["Labels"], {"Status": row["State"]}) for row in rows)
        return [one for one in found if one is not None]

    def stop(self, container_id: str) -> None:
        """Returns once it has exited; after its own stop timeout it is killed."""
        try:
            with self._asking("stop a container") as client:
                client.stop(container_id)
        except APIError as error:
            if error.status_code != 404:
                raise EngineUnavailable(_explain(error)) from error

    def remove(self, container_id: str) -> bool:
        """Whether it is gone; a running one stays."""
        try:
            with self._asking("remove a container") as client:
                client.remove_container(container_id, v=True)
        except APIError as error:
            # 409: it runs, or another one is removing it.
            return error.status_code == 404
        return True

    def output(self, container_id: str, *, tail: int) -> bytes:
        """The last `tail` lines it wrote; empty where there is no such container."""
        try:
            with self._asking("read a container's output") as client:
                return bytes(client.logs(container_id, tail=tail))
        except APIError:
            return b""

    def follow(self, container_id: str, *, tail: int) -> "Stream":
        """Its output from `tail` lines ago on."""
        return self._open(
            f"/containers/{container_id}/logs",
            {"follow": 1, "stdout": 1, "stderr": 1, "tail": tail},
            silence=self._config.silence,
        )

    def events(self, *, silence: float) -> "Stream":
        """What happens to ours from now on, one JSON object per event."""
        filters = {
            "type": ["container"],
            "event": ["create", "start", "die", "destroy"],
            "label": [f"{OWNER}={self._config.owner}"],
        }
        return self._open("/events", {"filters": json.dumps(filters)}, silence=silence)

    def _open(self, path: str, params: Mapping[str, int | str], *, silence: float) -> "Stream":
        # The SDK's own streams wait for ever in a dead connection, and ask for
        # the container's tty setting each time; a read timeout heals the first.
        with self._asking("open a stream", every_error=True) as client:
            response = client.get(
                f"{client.base_url}/v{client.api_version}{path}",
                params=params,
                stream=True,
                timeout=(self._config.call_timeout, silence),
            )
            stream = Stream(response)
            try:
                response.raise_for_status()
            except requests.HTTPError:
                response.close()
                raise
        return stream

    def _host_config(self, client: APIClient, order: Launch) -> dict[str, Any]:
        config = self._config
        host_config: dict[str, Any] = client.create_host_config(
            init=True,
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            pids_limit=config.processes,
            mem_limit=config.memory_bytes,
            memswap_limit=config.memory_bytes,
            nano_cpus=int(config.cpus * 1e9),
            ulimits=[
                Ulimit(name="nofile", soft=1024, hard=1024),
                Ulimit(name="core", soft=0, hard=0),
            ],
            tmpfs={"/tmp": "rw,noexec,nosuid,nodev,size=8m"},  # noqa: S108 - inside the container
            mounts=[Mount(MEDIA, str(order.media_folder), type="bind", read_only=True)],
            network_mode=config.network,
            # Restarting is the reconciler's decision, never the engine's.
            restart_policy={"Name": "no"},
            log_config=LogConfig(
                type="json-file",
                config={
                    "max-size": str(config.log_bytes),
                    "max-file": str(config.log_files),
                },
            ),
        )
        return host_config

    def _container(
        self, container_id: str, labels: Mapping[str, str], state: Mapping[str, Any]
    ) -> Container | None:
        if labels.get(OWNER) != self._config.owner:
            return None
        try:
            session_id, generation = UUID(labels[SESSION]), int(labels[GENERATION])
        except (KeyError, ValueError):
            return None
        status = _STATES.get(state["Status"], ContainerState.RUNNING)
        started_at = _moment(state.get("StartedAt", ""))
        return Container(
            id=container_id,
            session_id=session_id,
            generation=generation,
            state=status,
            started_at=started_at,
            exit_code=state.get("ExitCode") if started_at and status is ContainerState.EXITED else None,
            report=None,
        )

    @contextmanager
    def _asking(self, what: str, *, every_error: bool = False) -> Iterator[APIClient]:
        """Lets only the engine's refusals (4xx) pass, and with `every_error` not even those."""
        try:
            yield self._connected()
        except APIError as error:
            if error.is_client_error() and not every_error:
                raise
            raise EngineUnavailable(f"{what}: {_explain(error)}") from error
        except (
            DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as error:
            raise EngineUnavailable(f"{what}: {error}") from error

    def _connected(self) -> APIClient:
        # Late, because asking the engine for its version needs the engine there.
        with self._lock:
            if self._client is None:
                self._client = APIClient(
                    base_url=self._config.host,
                    version="auto",
                    timeout=ceil(self._config.call_timeout),
                    max_pool_size=self._config.calls + self._config.stops,
                )
                # Else each call looks for proxies in the environment.
                self._client.trust_env = False
            return self._client


class Stream:
    """An answer without end; `with` it in the thread that reads, `close` it from any."""

    def __init__(self, response: requests.Response) -> None:
        self._response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def lines(self) -> Iterator[bytes]:
        """Whole lines of a container's output, both of its streams in order.

        Ends where the output does. Raises EngineUnavailable on silence or when
        the connection breaks.
        """
        kept = b""
        for chunk in self._frames():
            *whole, kept = (kept + chunk).split(b"\n")
            yield from whole

    def objects(self) -> Iterator[dict[str, Any]]:
        """The JSON object of each line. Ends and raises as `lines` does."""
        with _reading():
            for line in self._response.iter_lines(chunk_size=None):
                yield json.loads(line)

    def close(self) -> None:
        """Ends the reading; the reader lets go of the connection."""
        # Closing it from here would not wake the reader.
        with suppress(ValueError, RuntimeError, OSError):  # it has ended already
            self._response.raw.shutdown()

    def _frames(self) -> Iterator[bytes]:
        """The engine's framing: a byte naming the stream, three unused, four of length."""
        raw = self._response.raw
        with _reading():
            while len(header := raw.read(8)) == 8:
                yield raw.read(int.from_bytes(header[4:], "big"))


@contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        OSError,
        ValueError,
    ) as error:
        raise EngineUnavailable(f"a stream broke: {error}") from error


def container_name(session_id: UUID, generation: int) -> str:
    """Deterministic: the engine's refusal of a second one of that name is our idempotence."""
    return f"streamax-{session_id}-{generation}"


def _explain(error: APIError) -> str:
    return str(error.explanation or error)


def _moment(text: str) -> datetime | None:
    """The engine's timestamp; its year 1 means never."""
    if not text or text.startswith("0001-"):
        return None
    return datetime.fromisoformat(text)
