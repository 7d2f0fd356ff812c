"""What a deployment decides about the streams service; every limit of it is here."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from services.chassis.auth import AuthConfig
from services.chassis.database import DatabaseConfig
from services.chassis.server import ServerConfig


class RuntimeKind(StrEnum):
    """Which engine runs the encoders."""

    DOCKER = "docker"
    PROCESS = "process"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """Containers on one Docker Engine."""

    #: Image reference or id of the encoder; needed for runtime "docker".
    image: str = ""
    #: Engine address; empty means the Docker client's own default.
    host: str = ""
    #: Network the containers join.
    network: str = "bridge"
    #: Per container; the encoder with a 1080p copy stream needs about 35 MB of its own.
    memory_mb: int = 192
    cpus: float = 1.0
    pids: int = 64

    def __post_init__(self) -> None:
        # Below 96 MB the image's shared pages alone can hit the limit (measured).
        if self.memory_mb < 96 or self.cpus <= 0 or self.pids < 16:
            raise ValueError("docker: memory_mb >= 96, cpus > 0 and pids >= 16 are needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """Encoders as detached processes of this host."""

    #: Where each encoder's identity and output are kept; needed for runtime "process".
    state_folder: Path | None = None
    #: The ffmpeg to run; empty means the one that comes with the package.
    ffmpeg: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaConfig:
    """Users' media files."""

    #: Holds one folder per user, named by the user's id.
    root: Path
    #: Larger files are refused.
    most_bytes: int = 64 * 1024**3
    #: A probe that takes longer is ended and the file refused.
    probe_timeout: timedelta = timedelta(seconds=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileConfig:
    """How closely encoders are looked after."""

    #: Between two passes when nothing hints at a change.
    every: timedelta = timedelta(seconds=2)
    #: Between two records of the delivery counters.
    record_every: timedelta = timedelta(seconds=2)
    #: Engine operations under way at once.
    concurrency: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """What watchers get."""

    #: The truth behind the hints: how often logs are looked at without one.
    poll_every: timedelta = timedelta(seconds=1)
    #: An idle watch says how far it is this often.
    bookmark_every: timedelta = timedelta(seconds=30)
    #: A watch can be resumed from changes this old.
    keep: timedelta = timedelta(days=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The streams service."""

    server: ServerConfig
    database: DatabaseConfig
    media: MediaConfig
    #: Keys that seal stream keys; lose it and every active stream must be started anew.
    vault_key_file: Path
    auth: AuthConfig = field(default_factory=AuthConfig)
    #: host:port of the users service, asked for its token keys unless `auth` names a source.
    users_address: str = ""
    workers: int = 1
    runtime: RuntimeKind = RuntimeKind.DOCKER
    #: Tells this deployment's containers from another's on the same engine.
    deployment: str = "streamax"
    docker: DockerConfig = field(default_factory=DockerConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    reconcile: ReconcileConfig = field(default_factory=ReconcileConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    #: Where streams may go: `scheme://host:port`, the host exact, `*.suffix`, or a literal address.
    destinations: tuple[str, ...] = (
        "rtmp://*.rtmp.youtube.com:1935",
        "rtmps://*.rtmps.youtube.com:443",
    )

    def __post_init__(self) -> None:
        if self.runtime is RuntimeKind.DOCKER and not self.docker.image:
            raise ValueError('docker.image is needed for runtime "docker"')
        if self.runtime is RuntimeKind.PROCESS and self.process.state_folder is None:
            raise ValueError('process.state_folder is needed for runtime "process"')
        if self.workers < 1:
            raise ValueError("workers must be at least 1")
