"""The reconciler's plan: examples for each rule, properties for the invariants."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder import report as encoder
from encoder.report import Report, State
from services.streams.model import Cause, DesiredStatus, Held, Status
from services.streams.reconcile.plan import Action, Launch, Patience, Record, Remove, Stop, make_plan
from services.streams.runtime import Container, ContainerState

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
PATIENCE = Patience()
SESSION = UUID(int=1)
OWNER = UUID(int=2)


def held(**changes: object) -> Held:
    session = Held(
        id=SESSION,
        user_id=OWNER,
        status=Status.STARTING,
        desired_status=DesiredStatus.RUNNING,
        cause=None,
        cause_detail="",
        container_id=None,
        generation=1,
        started_at=None,
    )
    return replace(session, **changes)  # type: ignore[arg-type]  # a test's shorthand


def container(**changes: object) -> Container:
    one = Container(
        id="c1",
        session_id=SESSION,
        generation=1,
        state=ContainerState.RUNNING,
        started_at=NOW - timedelta(seconds=5),
        exit_code=None,
        report=None,
    )
    return replace(one, **changes)  # type: ignore[arg-type]  # a test's shorthand


def report(state: State, *, age: float = 0.5, **changes: object) -> Report:
    at = NOW.timestamp() - age
    media = {"first_media_at": at - 60, "last_media_at": at} if state is State.DELIVERING else {}
    return Report(at=at, attempt=1, state=state, **{**media, **changes})  # type: ignore[arg-type]


def plan(
    sessions: Sequence[Held], containers: Sequence[Container], *, not_before: datetime | None = None
) -> tuple[Action, ...]:
    made = make_plan(
        sessions,
        containers,
        now=NOW,
        patience=PATIENCE,
        not_before={SESSION: not_before} if not_before else {},
    )
    return tuple(action for actions in made.actions.values() for action in actions)


def test_a_new_session_is_launched_with_the_generation_it_has() -> None:
    assert plan([held()], []) == (Launch(session_id=SESSION, generation=1, renew=False),)


def test_a_session_whose_container_vanished_says_so_and_takes_the_next_generation() -> None:
    noted, launch = plan([held(container_id="c1", status=Status.RUNNING)], [])
    assert isinstance(noted, Record)
    assert (noted.status, noted.cause) == (Status.STARTING, Cause.HOST_LOST)
    assert launch == Launch(session_id=SESSION, generation=1, renew=True)


def test_a_relaunch_waits_for_its_time() -> None:
    session = held(container_id="c1", cause=Cause.HOST_LOST)
    actions = plan([session], [], not_before=NOW + timedelta(seconds=1))
    assert not any(isinstance(action, Launch) for action in actions)


def test_a_container_that_has_not_delivered_is_starting() -> None:
    (record,) = plan([held()], [container(report=report(State.CONNECTING))])
    assert isinstance(record, Record)
    assert (record.status, record.container_id, record.started_at) == (Status.STARTING, "c1", None)


def test_acknowledged_media_makes_it_running_since_the_first_byte() -> None:
    seen = report(State.DELIVERING, first_media_at=1_000.0)
    (record,) = plan([held(container_id="c1")], [container(report=seen)])
    assert isinstance(record, Record)
    assert record.status is Status.RUNNING
    assert record.started_at == datetime.fromtimestamp(1_000, tz=UTC)


def test_media_acknowledged_too_long_ago_is_not_running() -> None:
    old = report(State.DELIVERING, last_media_at=(NOW - PATIENCE.media).timestamp() - 1)
    (record,) = plan([held(container_id="c1", status=Status.RUNNING)], [container(report=old)])
    assert isinstance(record, Record)
    assert record.status is Status.STARTING


@pytest.mark.parametrize("cause", list(encoder.Cause))
def test_the_encoders_cause_is_the_sessions_cause(cause: encoder.Cause) -> None:
    seen = report(State.BACKOFF, cause=cause, detail="because")
    (record,) = plan([held(container_id="c1")], [container(report=seen)])
    assert isinstance(record, Record)
    assert (record.status, record.cause, record.cause_detail) == (
        Status.STARTING,
        Cause(cause.value),
        "because",
    )


def test_what_is_right_already_needs_nothing() -> None:
    session = held(container_id="c1", status=Status.RUNNING, started_at=NOW)
    assert plan([session], [container(report=report(State.DELIVERING))]) == ()


def test_a_silent_encoder_is_ended() -> None:
    silent = container(report=report(State.DELIVERING, age=PATIENCE.silence.total_seconds() + 1))
    noted, stop = plan([held(container_id="c1", status=Status.RUNNING)], [silent])
    assert isinstance(noted, Record)
    assert noted.cause is Cause.HOST_LOST
    assert stop == Stop(container=silent, reason="silent")


def test_an_encoder_that_never_reports_is_ended() -> None:
    mute = container(started_at=NOW - PATIENCE.silence - timedelta(seconds=1))
    assert plan([held(container_id="c1")], [mute]) == (Stop(container=mute, reason="never reported"),)


def test_an_abandoned_half_launch_is_ended() -> None:
    half = container(state=ContainerState.CREATED, started_at=None)
    assert plan([held()], [half]) == (Stop(container=half, reason="never started"),)


def test_an_encoder_that_gave_up_makes_an_error_with_its_cause_and_goes() -> None:
    given_up = container(
        state=ContainerState.EXITED,
        report=report(State.ENDED, cause=encoder.Cause.KEY_REJECTED, detail="The key was refused."),
    )
    record, remove = plan([held(container_id="c1")], [given_up])
    assert isinstance(record, Record)
    assert (record.status, record.cause) == (Status.ERROR, Cause.KEY_REJECTED)
    assert remove == Remove(container=given_up)


@pytest.mark.parametrize("last", [None, report(State.DELIVERING), report(State.ENDED)])
def test_an_encoder_that_died_is_forgotten_so_that_another_may_follow(last: Report | None) -> None:
    dead = container(state=ContainerState.EXITED, report=last)
    noted, remove = plan([held(container_id="c1", status=Status.RUNNING)], [dead])
    assert isinstance(noted, Record)
    assert (noted.status, noted.cause) == (Status.STARTING, Cause.HOST_LOST)
    assert remove == Remove(container=dead)


def test_a_stop_ends_the_container_before_the_slot_is_settled() -> None:
    stopping = held(desired_status=DesiredStatus.STOPPED, status=Status.STOPPING, cause=Cause.USER)
    running, gone = container(), container(state=ContainerState.EXITED)
    assert plan([stopping], [running]) == (Stop(container=running, reason="stop wanted"),)
    remove, record = plan([stopping], [gone])
    assert remove == Remove(container=gone)
    assert isinstance(record, Record)
    assert (record.status, record.cause) == (Status.STOPPED, Cause.USER)


def test_a_stop_of_what_never_ran_settles_at_once() -> None:
    stopping = held(desired_status=DesiredStatus.STOPPED, status=Status.STOPPING)
    (record,) = plan([stopping], [])
    assert isinstance(record, Record)
    assert record.status is Status.STOPPED


def test_an_orphan_is_ended_and_then_forgotten() -> None:
    running, exited = container(), container(state=ContainerState.EXITED)
    assert plan([], [running]) == (Stop(container=running, reason="orphan"),)
    assert plan([], [exited]) == (Remove(container=exited),)


def test_nothing_is_launched_beside_a_superseded_container() -> None:
    old = container(id="c1", generation=1)
    assert plan([held(generation=2)], [old]) == (Stop(container=old, reason="superseded generation"),)


reports = st.one_of(
    st.none(),
    st.builds(
        Report,
        at=st.floats(NOW.timestamp() - 60, NOW.timestamp()),
        attempt=st.integers(1, 9),
        state=st.sampled_from(State),
        cause=st.one_of(st.none(), st.sampled_from(encoder.Cause)),
        first_media_at=st.one_of(st.none(), st.floats(0, NOW.timestamp())),
        last_media_at=st.one_of(st.none(), st.floats(NOW.timestamp() - 60, NOW.timestamp())),
    ),
)
containers = st.lists(
    st.builds(
        Container,
        id=st.sampled_from(["c1", "c2", "c3"]),
        session_id=st.sampled_from([SESSION, UUID(int=9)]),
        generation=st.integers(1, 3),
        state=st.sampled_from(ContainerState),
        started_at=st.one_of(
            st.none(),
            st.datetimes(
                NOW.replace(tzinfo=None) - timedelta(60), NOW.replace(tzinfo=None), timezones=st.just(UTC)
            ),
        ),
        exit_code=st.none(),
        report=reports,
    ),
    max_size=4,
    unique_by=lambda one: (one.session_id, one.generation),
)
sessions = st.builds(
    Held,
    id=st.just(SESSION),
    user_id=st.just(OWNER),
    status=st.sampled_from([Status.STARTING, Status.RUNNING, Status.STOPPING]),
    desired_status=st.sampled_from(DesiredStatus),
    cause=st.one_of(st.none(), st.sampled_from(Cause)),
    cause_detail=st.text(max_size=5),
    container_id=st.sampled_from([None, "c1", "c2"]),
    generation=st.integers(1, 3),
    started_at=st.one_of(st.none(), st.just(NOW)),
)


@given(sessions, containers)
def test_two_encoders_are_never_planned_for_one_session(session: Held, seen: list[Container]) -> None:
    own = [one for one in seen if one.session_id == SESSION]
    if any(isinstance(action, Launch) for action in plan([session], seen)):
        assert all(one.state is ContainerState.EXITED for one in own)
        assert all(one.generation != session.generation for one in own)


@given(sessions, containers)
def test_a_slot_is_settled_only_when_nothing_can_still_push(session: Held, seen: list[Container]) -> None:
    own = [one for one in seen if one.session_id == SESSION]
    final = [a for a in plan([session], seen) if isinstance(a, Record) and a.status.is_final]
    if final:
        assert all(one.state is ContainerState.EXITED for one in own)


@given(sessions, containers)
def test_running_is_said_only_of_media_acknowledged_just_now(session: Held, seen: list[Container]) -> None:
    for action in plan([session], seen):
        if isinstance(action, Record) and action.status is Status.RUNNING:
            (current,) = (
                one
                for one in seen
                if one.id == action.container_id
                and one.session_id == SESSION
                and one.generation == session.generation
            )
            assert current.report is not None
            assert current.report.last_media_at is not None
            assert NOW.timestamp() - current.report.last_media_at <= PATIENCE.media.total_seconds()


@given(sessions, containers)
def test_what_is_wanted_stopped_is_never_launched(session: Held, seen: list[Container]) -> None:
    stopping = replace(session, desired_status=DesiredStatus.STOPPED)
    assert not any(isinstance(action, Launch) for action in plan([stopping], seen))


@given(containers)
def test_every_orphan_is_dealt_with(seen: list[Container]) -> None:
    dealt = {
        (action.container.session_id, action.container.generation)
        for action in plan([], seen)
        if isinstance(action, Stop | Remove)
    }
    assert dealt == {(one.session_id, one.generation) for one in seen}
