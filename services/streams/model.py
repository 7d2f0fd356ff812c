"""A session, and the words for its life. No I/O."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """What is observed; the values are the table's."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ERROR = "error"

    @property
    def is_final(self) -> bool:
        return self in (Status.STOPPED, Status.ERROR)


class DesiredStatus(StrEnum):
    """What is wanted."""

    RUNNING = "running"
    STOPPED = "stopped"


class Cause(StrEnum):
    """Why a session is not running; the encoder's causes and the control plane's own."""

    SOURCE = "source"
    CPU = "cpu"
    NETWORK = "network"
    REMOTE_REFUSED = "remote_refused"
    REMOTE_SLOW = "remote_slow"
    KEY_REJECTED = "key_rejected"
    STALLED = "stalled"
    HOST_LOST = "host_lost"
    PACKAGE_EXPIRED = "package_expired"
    OPERATOR = "operator"
    USER = "user"


class ChangeKind(StrEnum):
    """What happened to a session at a revision."""

    ADDED = "added"
    MODIFIED = "modified"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What receiving kernels acknowledged of a session, all its containers together."""

    delivered_seconds: float
    acknowledged_bytes: int
    bitrate_kbps: float
    attempts: int
    measured_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One row of stream_sessions as its owner sees it; never the stream key."""

    id: UUID
    user_id: UUID
    rtmp_url: str
    video_source: str
    status: Status
    desired_status: DesiredStatus
    cause: Cause | None
    cause_detail: str
    container_id: str | None
    generation: int
    revision: int
    created_at: datetime
    started_at: datetime | None
    stopped_at: datetime | None
    delivery: Delivery | None

    @property
    def etag(self) -> str:
        """Changes with every recorded change; delivery figures do not change it."""
        return f'"{self.revision}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry of a user's change log: the session as it was at the revision."""

    revision: int
    kind: ChangeKind
    session: Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All sessions of a user at one revision."""

    revision: int
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A session that holds a slot, as the reconciler sees it."""

    id: UUID
    user_id: UUID
    status: Status
    desired_status: DesiredStatus
    cause: Cause | None
    cause_detail: str
    container_id: str | None
    generation: int
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a launch needs of a session."""

    session_id: UUID
    user_id: UUID
    generation: int
    rtmp_url: str
    video_source: str
    sealed_key: bytes = field(repr=False)
