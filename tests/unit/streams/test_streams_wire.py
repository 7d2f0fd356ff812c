"""Every word of the model has its word on the wire."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from services.chassis.errors import InvalidField
from services.streams import wire
from services.streams.model import Cause, Change, ChangeKind, DesiredStatus, Session, Status
from streamax.streams.v1 import session_pb2, stream_service_pb2

SESSION = Session(
    id=UUID(int=1),
    user_id=UUID(int=2),
    rtmp_url="rtmp://a.rtmp.youtube.com/live2",
    video_source="loop.mp4",
    status=Status.STARTING,
    desired_status=DesiredStatus.RUNNING,
    cause=None,
    cause_detail="",
    container_id=None,
    generation=1,
    revision=7,
    created_at=datetime(2026, 11, 22, tzinfo=UTC),
    started_at=None,
    stopped_at=None,
    delivery=None,
)


@pytest.mark.parametrize("status", list(Status))
def test_each_status_keeps_its_name(status: Status) -> None:
    message = wire.session_message(_with(status=status))
    assert session_pb2.SessionStatus.Name(message.status) == f"SESSION_STATUS_{status.name}"


@pytest.mark.parametrize("cause", list(Cause))
def test_each_cause_keeps_its_name(cause: Cause) -> None:
    message = wire.session_message(_with(cause=cause))
    assert session_pb2.SessionCause.Name(message.cause) == f"SESSION_CAUSE_{cause.name}"


@pytest.mark.parametrize("kind", list(ChangeKind))
def test_each_kind_of_change_keeps_its_name(kind: ChangeKind) -> None:
    message = wire.change_message(Change(revision=7, kind=kind, session=SESSION))
    assert stream_service_pb2.ChangeKind.Name(message.change.kind) == f"CHANGE_KIND_{kind.name}"


def test_what_is_unknown_is_absent_on_the_wire() -> None:
    message = wire.session_message(SESSION)
    assert not any(message.HasField(field) for field in ("start_time", "stop_time", "delivery"))
    assert message.cause == session_pb2.SESSION_CAUSE_UNSPECIFIED


def test_an_etag_leads_back_to_its_revision() -> None:
    assert wire.revision_of(wire.session_message(SESSION).etag) == 7
    assert wire.revision_of("") is None


@pytest.mark.parametrize("etag", ["x", '"', '"-1"', "²", "9" * 19])
def test_an_etag_that_is_none_of_ours_is_refused(etag: str) -> None:
    with pytest.raises(InvalidField):
        wire.revision_of(etag)


def _with(*, status: Status = Status.STARTING, cause: Cause | None = None) -> Session:
    return replace(SESSION, status=status, cause=cause)
