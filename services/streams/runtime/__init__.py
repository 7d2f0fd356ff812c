"""Where encoders run: one Protocol, and the real engines behind it.

`docker` runs one container per stream, `process` one detached process per
stream where no engine is reachable, `memory` simulates for tests and figures.
All three pass tests/conformance/test_runtime.py, which is this contract,
executed.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from uuid import UUID

from encoder.job import Limits
from encoder.report import LogLine, Report

__all__ = [
    "Container",
    "ContainerState",
    "EngineUnavailable",
    "Launch",
    "LaunchRefused",
    "Runtime",
]


class ContainerState(StrEnum):
    """What the engine says of a container; not whether media flows."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One encoder to be started."""

    session_id: UUID
    #: Grows with every container a session is given; with session_id it names the container.
    generation: int
    #: The owner's media folder on the host; the only one the encoder can see.
    media_folder: Path
    #: Path of the file inside that folder.
    source: str
    #: rtmp(s)://host[:port]/app, without the key.
    destination: str
    stream_key: str = field(repr=False)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One encoder of ours as last observed."""

    id: str
    session_id: UUID
    generation: int
    state: ContainerState
    #: The engine's clock; None before it ran.
    started_at: datetime | None
    #: Set once exited, where the engine knows it.
    exit_code: int | None
    #: The latest snapshot the encoder wrote, also by one that has exited.
    report: Report | None


class EngineUnavailable(Exception):
    """The engine did not answer. Nothing is known about any container; retry."""


class LaunchRefused(Exception):
    """The engine answered and will not run this; a retry would meet the same. The text is for the log."""


class Runtime(Protocol):
    """The contract of an engine.

    Every method raises EngineUnavailable when the engine does not answer, and
    then nothing may be concluded from it. Nothing here interprets: policy is the
    reconciler's, and engines never restart a container by themselves.
    """

    #: "docker", "process" or "memory".
    name: str

    async def launch(self, order: Launch) -> Container:
        """Start an encoder and return at once, before any media flows.

        Idempotent by (session_id, generation): where that container exists, in
        whatever state, it is returned and nothing is started. The key reaches
        the encoder by a channel that leaves no trace in argv, environment,
        labels, inspection or logs. Raises LaunchRefused.
        """
        ...

    async def list(self) -> Sequence[Container]:
        """All containers of ours, exited ones too until removed. This is the truth.

        Ours are known by label, so a runtime opened after a crash of the control
        plane lists what its predecessor started, with their latest reports.
        """
        ...

    async def stop(self, container_id: str) -> None:
        """Ask the encoder to end, insist, then kill; return when it has exited.

        Idempotent; an unknown or exited container is no error.
        """
        ...

    async def remove(self, container_id: str) -> None:
        """Forget an exited container and everything kept for it. Unknown: no error.

        A running one is not removed (stop it first): no error, no effect.
        """
        ...

    async def logs(self, container_id: str, *, limit: int) -> Sequence[LogLine]:
        """The last lines ffmpeg wrote, oldest first, the key scrubbed. Unknown: empty."""
        ...

    def hints(self) -> AsyncIterator[UUID]:
        """Session ids whose container or report changed just now.

        Only a hint to look: may repeat, may miss (the list is the truth), never
        ends by itself, survives the engine going away and coming back. A report
        that differs only in its counters gives no hint.
        """
        ...

    async def close(self) -> None:
        """Let go of the engine. Containers go on."""
        ...
