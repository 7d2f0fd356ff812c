"""What the users service can be told; every field with its default and its reason."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from services.chassis.auth import AuthConfig
from services.chassis.database import DatabaseConfig
from services.chassis.server import ServerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenConfig:
    """The tokens we issue."""

    #: `iss` of access tokens.
    issuer: str = "streamax"
    #: Supabase's default. A token cannot be called back, so longer is laxer.
    access_lifetime: timedelta = timedelta(hours=1)
    #: An idle session ends after this; each refresh begins it anew.
    refresh_lifetime: timedelta = timedelta(days=30)
    #: How long a spent refresh token still gets the answer it got first: two tabs, or a client
    #: whose connection broke before the answer came, race with themselves. 10 s is GoTrue's value.
    reuse_interval: timedelta = timedelta(seconds=10)

    def __post_init__(self) -> None:
        if not timedelta(minutes=1) <= self.access_lifetime <= timedelta(days=1):
            raise ValueError("access_lifetime must be 1 minute to 1 day")
        if self.refresh_lifetime <= self.access_lifetime:
            raise ValueError("refresh_lifetime must be longer than access_lifetime")
        if not timedelta(0) <= self.reuse_interval <= timedelta(minutes=1):
            raise ValueError("reuse_interval must be 0 to 1 minute")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordConfig:
    """What a password hash costs, and how many may be in the making; see credentials.py."""

    time_cost: int = 3
    memory_kib: int = 65536
    lanes: int = 1
    #: Hashing threads per process; each takes `memory_kib` while it hashes.
    workers: int = 1
    #: Hashings that may wait for a thread; more are refused at once. 24 wait 4 s at the default cost.
    queue: int = 24

    def __post_init__(self) -> None:
        if min(self.time_cost, self.lanes, self.workers) < 1 or self.queue < 0:
            raise ValueError("time_cost, lanes and workers must be positive, queue not negative")
        if self.memory_kib < 8 * self.lanes:
            raise ValueError("memory_kib must be at least 8 for each lane")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The users service."""

    server: ServerConfig
    database: DatabaseConfig
    #: Base64 keys that seal the signing keys and derive refresh tokens; see chassis/vault.py.
    vault_key_file: Path
    auth: AuthConfig = field(default_factory=AuthConfig)
    tokens: TokenConfig = field(default_factory=TokenConfig)
    passwords: PasswordConfig = field(default_factory=PasswordConfig)
    #: How soon every process notices a rotated signing key.
    keys_refresh: timedelta = timedelta(seconds=30)
    #: Processes that share the port.
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ValueError("workers must be positive")
        if self.keys_refresh <= timedelta(0):
            raise ValueError("keys_refresh must be positive")
