"""What a deployment decides about the streams service; every limit of it is here."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from services.chassis.auth import AuthConfig
from services.chassis.database import DatabaseConfig
from services.chassis.server import ServerConfig
from services.streams.destination import Allowlist
from services.streams.media.probe import Limits as ProbeLimits
from services.streams.runtime.docker_config import DockerConfig
from services.streams.runtime.process import ProcessConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaConfig:
    """Users' media files."""

    #: Holds one folder per user, named by the user's id.
    root: Path
    #: Larger files are refused.
    most_bytes: int = 64 * 1024**3
    probe: ProbeLimits = field(default_factory=ProbeLimits)


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
    #: Exactly one engine: `docker`, `process`, or, for simulation, `simulate = true`.
    docker: DockerConfig | None = None
    process: ProcessConfig | None = None
    simulate: bool = False
    reconcile: ReconcileConfig = field(default_factory=ReconcileConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    #: Where streams may go: `scheme://host:port`, the host exact, `*.suffix`, or a literal address.
    destinations: tuple[str, ...] = (
        "rtmp://*.rtmp.youtube.com:1935",
        "rtmps://*.rtmps.youtube.com:443",
    )

    def __post_init__(self) -> None:
        if sum((self.docker is not None, self.process is not None, self.simulate)) != 1:
            raise ValueError("give exactly one of docker, process and simulate")
        if self.workers < 1:
            raise ValueError("workers must be at least 1")
        Allowlist.parse(self.destinations)
