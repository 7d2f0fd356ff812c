"""Every statement of the streams service: one function per named query."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from asyncpg import Record, UniqueViolationError

import sql
from services.chassis.database import Database
from services.chassis.errors import Internal
from services.streams.errors import DestinationInUse
from services.streams.model import (
    Cause,
    Change,
    ChangeKind,
    Delivery,
    DesiredStatus,
    Held,
    Order,
    Session,
    Snapshot,
    Status,
)

_QUERIES = sql.queries("streams")

#: The partial unique index over the destinations of sessions that hold a slot.
_ONE_PUSHER_PER_TARGET = "stream_sessions_one_per_target"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A checked request to start a stream; the key only sealed or hashed."""

    id: UUID
    video_source: str
    rtmp_url: str
    target_hash: bytes
    sealed_key: bytes
    request_id: UUID | None
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the reconciler saw of a session, for the record."""

    session_id: UUID
    generation: int
    status: Status
    cause: Cause | None
    cause_detail: str
    container_id: str | None
    started_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The counters of one encoder; each generation counts from zero."""

    session_id: UUID
    generation: int
    delivered_seconds: float
    acknowledged_bytes: int
    bitrate_kbps: float
    attempts: int
    measured_at: datetime


async def start_stream(db: Database, caller: UUID, new: NewSession) -> Session:
    """Take a slot and create the session, or return the first answer of this request_id.

    Raises QuotaExceeded, PackageMissing, PackageExpired, DestinationInUse,
    RequestIdReused, ResourceNotFound (no such user).
    """
    try:
        row = await db.fetchrow(
            _QUERIES["start_stream"],
            caller,
            new.id,
            new.video_source,
            new.rtmp_url,
            new.target_hash,
            new.sealed_key,
            new.request_id,
            new.fingerprint,
        )
    except UniqueViolationError as error:
        if error.constraint_name == _ONE_PUSHER_PER_TARGET:
            raise DestinationInUse from error
        raise
    return _session(_one(row))


async def first_start(db: Database, caller: UUID, request_id: UUID, fingerprint: bytes) -> Session | None:
    """The first answer to this very request, None when it never was admitted."""
    row = await db.fetchrow(_QUERIES["first_start"], caller, request_id, fingerprint)
    return _session(row) if row else None


async def request_stop(db: Database, caller: UUID, session_id: UUID, *, revision: int | None) -> Session:
    """Want the session stopped. Raises ResourceNotFound, EtagMismatch."""
    return _session(_one(await db.fetchrow(_QUERIES["request_stop"], caller, session_id, revision)))


async def get_session(db: Database, caller: UUID, session_id: UUID) -> Session | None:
    """One session of the caller, or None."""
    row = await db.fetchrow(_QUERIES["get_session"], caller, session_id)
    return _session(row) if row else None


async def list_sessions(
    db: Database,
    caller: UUID,
    *,
    statuses: Sequence[Status],
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> list[Session]:
    """The caller's sessions, newest first, after the keyset position `before`."""
    created_at, session_id = before or (None, None)
    rows = await db.fetch(
        _QUERIES["list_sessions"],
        caller,
        [status.value for status in statuses],
        created_at,
        session_id,
        limit,
    )
    return [_session(row) for row in rows]


async def snapshot_sessions(db: Database, caller: UUID) -> Snapshot | None:
    """All sessions of the caller at one revision; None when the user is gone."""
    rows = await db.fetch(_QUERIES["snapshot_sessions"], caller)
    if not rows:
        return None
    sessions = tuple(_session(row) for row in rows if row["id"] is not None)
    return Snapshot(revision=rows[0]["snapshot_revision"], sessions=sessions)


async def changes_after(db: Database, caller: UUID, revision: int, *, limit: int) -> list[Change]:
    """The caller's changes after a revision, in order. Raises RevisionExpired."""
    rows = await db.fetch(_QUERIES["changes_after"], caller, revision, limit)
    return [
        Change(revision=row["change_revision"], kind=ChangeKind(row["kind"]), session=_session(row))
        for row in rows
    ]


async def advanced_users(db: Database, seen: Sequence[tuple[UUID, int]]) -> list[UUID]:
    """Those of the users whose revision has moved past the one seen."""
    users, revisions = [user for user, _ in seen], [revision for _, revision in seen]
    return [row["user_id"] for row in await db.fetch(_QUERIES["advanced_users"], users, revisions)]


async def held_sessions(db: Database) -> list[Held]:
    """Every session that holds a slot, all users."""
    return [_held(row) for row in await db.fetch(_QUERIES["held_sessions"])]


async def take_order(
    db: Database, epoch: int, session_id: UUID, generation: int, *, renew: bool
) -> Order | None:
    """What a launch needs, of the next generation when renewed; None when it is no longer wanted."""
    row = await db.fetchrow(_QUERIES["take_order"], epoch, session_id, generation, renew)
    if row is None:
        return None
    return Order(
        session_id=row["session_id"],
        user_id=row["user_id"],
        generation=row["generation"],
        rtmp_url=row["rtmp_url"],
        video_source=row["video_source"],
        sealed_key=row["sealed_key"],
    )


async def record_observation(db: Database, epoch: int, seen: Observation) -> bool:
    """Write down a status; a final one frees the slot. False when it is outdated and was not taken."""
    taken: bool = await db.fetchval(
        _QUERIES["record_observation"],
        epoch,
        seen.session_id,
        seen.generation,
        seen.status.value,
        seen.cause.value if seen.cause else None,
        seen.cause_detail,
        seen.container_id,
        seen.started_at,
    )
    return taken


async def record_delivery(db: Database, epoch: int, measured: Iterable[Measurement]) -> None:
    """Write down counters, all sessions in one statement; older generations' stay added in."""
    rows = list(measured)
    await db.execute(
        _QUERIES["record_delivery"],
        epoch,
        [row.session_id for row in rows],
        [row.generation for row in rows],
        [row.delivered_seconds for row in rows],
        [row.acknowledged_bytes for row in rows],
        [row.bitrate_kbps for row in rows],
        [row.attempts for row in rows],
        [row.measured_at for row in rows],
    )


async def trim_changes(db: Database, epoch: int, *, keep_seconds: float) -> int:
    """Forget change rows older than this; returns how many."""
    count: int = await db.fetchval(_QUERIES["trim_changes"], epoch, keep_seconds)
    return count


def _one(row: Record | None) -> Record:
    if row is None:
        raise Internal(private="a function that returns one row or raises returned none")
    return row


def _session(row: Record) -> Session:
    return Session(
        id=row["id"],
        user_id=row["user_id"],
        rtmp_url=row["rtmp_url"],
        video_source=row["video_source"],
        status=Status(row["status"]),
        desired_status=DesiredStatus(row["desired_status"]),
        cause=Cause(row["cause"]) if row["cause"] else None,
        cause_detail=row["cause_detail"] or "",
        container_id=row["container_id"],
        generation=row["generation"],
        revision=row["revision"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        stopped_at=row["stopped_at"],
        delivery=_delivery(row) if row["measured_at"] else None,
    )


def _delivery(row: Record) -> Delivery:
    return Delivery(
        delivered_seconds=row["delivered_seconds"],
        acknowledged_bytes=row["acknowledged_bytes"],
        bitrate_kbps=row["bitrate_kbps"],
        attempts=row["attempts"],
        measured_at=row["measured_at"],
    )


def _held(row: Record) -> Held:
    return Held(
        id=row["id"],
        user_id=row["user_id"],
        status=Status(row["status"]),
        desired_status=DesiredStatus(row["desired_status"]),
        cause=Cause(row["cause"]) if row["cause"] else None,
        cause_detail=row["cause_detail"] or "",
        container_id=row["container_id"],
        generation=row["generation"],
        started_at=row["started_at"],
    )
