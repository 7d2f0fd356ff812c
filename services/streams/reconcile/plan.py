"""The reconciler's decisions, pure: (held sessions, containers, now) -> plan.

The invariants, each tested as a property:
- a session never has two encoders: nothing is launched while any container of
  the session may still push;
- a slot is settled only when no container of the session is left running;
- `running` is said only of a fresh report of acknowledged media;
- what is right already yields no action.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from encoder.report import Report, State
from services.streams.model import Cause, DesiredStatus, Held, Status
from services.streams.runtime import Container, ContainerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long the plan waits before it concludes."""

    #: Media acknowledged this recently is `running`. The encoder reports once a
    #: second and itself calls a stall after 8 s; two lost reports must not flap.
    media: timedelta = timedelta(seconds=10)
    #: An encoder silent this long is lost: its supervisor writes every second.
    silence: timedelta = timedelta(seconds=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """Start the encoder of this generation; `renew` takes the next generation first."""

    session_id: UUID
    generation: int
    renew: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End a container that may still push."""

    container: Container
    #: Why, for the log.
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Forget a container that has exited, once its last counters are written down."""

    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Write down what is observed. A final status frees the slot."""

    session_id: UUID
    user_id: UUID
    generation: int
    status: Status
    cause: Cause | None
    cause_detail: str
    container_id: str | None
    #: When media was first acknowledged, once it was.
    started_at: datetime | None


Action = Launch | Stop | Remove | Record


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions by session, in the order in which they must be done."""

    actions: Mapping[UUID, tuple[Action, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Sight:
    """All containers of one session, sorted by what they mean for it."""

    current: Container | None
    others: tuple[Container, ...]

    @classmethod
    def of(cls, containers: Iterable[Container], generation: int) -> "_Sight":
        found = tuple(containers)
        return cls(
            next((one for one in found if one.generation == generation), None),
            tuple(one for one in found if one.generation != generation),
        )


def make_plan(
    held: Iterable[Held],
    containers: Iterable[Container],
    *,
    now: datetime,
    patience: Patience,
    not_before: Mapping[UUID, datetime],
) -> Plan:
    """What to do now so that what is wanted becomes what is.

    `containers` must have been listed before `held` was read: then a container
    without a held session is certainly an orphan. `not_before` is when a
    session that lost its container may be launched again.
    """
    by_session: dict[UUID, list[Container]] = defaultdict(list)
    for container in containers:
        by_session[container.session_id].append(container)
    actions: dict[UUID, tuple[Action, ...]] = {}
    for session in held:
        sight = _Sight.of(by_session.pop(session.id, ()), session.generation)
        if session.desired_status is DesiredStatus.STOPPED:
            actions[session.id] = tuple(_towards_stopped(session, sight))
        else:
            ready = now >= not_before.get(session.id, now)
            actions[session.id] = tuple(_towards_running(session, sight, now, patience, ready=ready))
    for session_id, orphans in by_session.items():
        actions[session_id] = tuple(_end(orphan, "orphan") for orphan in orphans)
    return Plan({session_id: todo for session_id, todo in actions.items() if todo})


def _end(container: Container, reason: str) -> Action:
    if container.state is ContainerState.EXITED:
        return Remove(container=container)
    return Stop(container=container, reason=reason)


def _may_push(containers: Iterable[Container]) -> bool:
    return any(container.state is not ContainerState.EXITED for container in containers)


def _towards_stopped(session: Held, sight: _Sight) -> Iterable[Action]:
    left = (*sight.others, *filter(None, (sight.current,)))
    for container in left:
        yield _end(container, "stop wanted")
    if not _may_push(left):
        yield _record(session, Status.STOPPED, session.cause or Cause.USER, session.cause_detail)


def _towards_running(
    session: Held, sight: _Sight, now: datetime, patience: Patience, *, ready: bool
) -> Iterable[Action]:
    for stale in sight.others:
        yield _end(stale, "superseded generation")
    if _may_push(sight.others):
        # It may still push to the same key; nothing else may begin or be settled.
        return
    match sight.current:
        case None if session.container_id is None:
            # Never seen running: the generation is unused, or its launch broke
            # off half-way. Launching by name is idempotent.
            if ready:
                yield Launch(session_id=session.id, generation=session.generation, renew=False)
        case None:
            yield from _note(session, Cause.HOST_LOST, "The encoder's container is gone; starting another.")
            if ready:
                yield Launch(session_id=session.id, generation=session.generation, renew=True)
        case Container(state=ContainerState.EXITED) as current:
            yield from _after_exit(session, current)
        case Container(state=ContainerState.CREATED) as current:
            # Launches in flight are not planned for, so this one was abandoned.
            yield _end(current, "never started")
        case current:
            yield from _while_running(session, current, now, patience)


def _after_exit(session: Held, current: Container) -> Iterable[Action]:
    report = current.report
    if report is not None and report.state is State.ENDED and report.cause is not None:
        yield _record(session, Status.ERROR, Cause(report.cause.value), report.detail, current)
    else:
        # Killed, crashed or stopped behind our back: the stream is still wanted.
        yield from _note(
            session, Cause.HOST_LOST, "The encoder ended unexpectedly; starting another.", current
        )
    yield _end(current, "exited")


def _while_running(session: Held, current: Container, now: datetime, patience: Patience) -> Iterable[Action]:
    report = current.report
    if report is None:
        if current.started_at is not None and now - current.started_at > patience.silence:
            yield _end(current, "never reported")
        elif session.container_id != current.id:
            yield _record(session, Status.STARTING, session.cause, session.cause_detail, current)
        return
    if now.timestamp() - report.at > patience.silence.total_seconds():
        yield from _note(session, Cause.HOST_LOST, "The encoder fell silent; starting another.", current)
        yield _end(current, "silent")
        return
    wanted = _observed(session, current, report, now, patience)
    if _differs(session, wanted):
        yield wanted


def _observed(session: Held, current: Container, report: Report, now: datetime, patience: Patience) -> Record:
    if is_live(report, now, patience):
        return _record(session, Status.RUNNING, None, "", current)
    if report.cause is None:
        # Nothing new went wrong, but it is not live again either: the last cause stands.
        return _record(session, Status.STARTING, session.cause, session.cause_detail, current)
    return _record(session, Status.STARTING, Cause(report.cause.value), report.detail, current)


def is_live(report: Report, now: datetime, patience: Patience) -> bool:
    """Whether media bytes were acknowledged in the last seconds."""
    return (
        report.state is State.DELIVERING
        and report.last_media_at is not None
        and now.timestamp() - report.last_media_at <= patience.media.total_seconds()
    )


def _note(session: Held, cause: Cause, detail: str, current: Container | None = None) -> Iterable[Record]:
    record = _record(session, Status.STARTING, cause, detail, current)
    if _differs(session, record):
        yield record


def _differs(session: Held, record: Record) -> bool:
    return (session.status, session.cause, session.cause_detail, session.container_id) != (
        record.status,
        record.cause,
        record.cause_detail,
        record.container_id,
    )


def _record(
    session: Held, status: Status, cause: Cause | None, detail: str, current: Container | None = None
) -> Record:
    report = current.report if current else None
    first = report.first_media_at if report else None
    return Record(
        session_id=session.id,
        user_id=session.user_id,
        generation=session.generation,
        status=status,
        cause=cause,
        cause_detail=detail,
        container_id=current.id if current else session.container_id,
        started_at=session.started_at
        or (datetime.fromtimestamp(first, tz=UTC) if first is not None else None),
    )
