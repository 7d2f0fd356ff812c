"""StreamService as a caller meets it, over the simulated engine and a real database."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest

from services.chassis.errors import (
    EtagMismatch,
    InvalidField,
    PageTokenInvalid,
    RequestIdReused,
    ResourceNotFound,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from services.streams.errors import DestinationInUse, QuotaExceeded, RevisionExpired
from streamax.streams.v1 import session_pb2 as session_pb
from streamax.streams.v1 import stream_service_pb2 as pb
from tests.support.refusals import refused
from tests.support.streams import INGEST, Client
from tests.support.tokens import Issuer, bearer


def start(**changes: Any) -> pb.StartStreamRequest:
    values = {"video_source": "loop.mp4", "rtmp_url": INGEST, "stream_key": uuid4().hex}
    return pb.StartStreamRequest(**(values | changes))


async def reaches(
    streams: Client, user: UUID, session_id: str, status: "session_pb.SessionStatus"
) -> session_pb.Session:
    """The session as soon as a watch shows it with this status."""
    async for event in streams.streams.WatchSessions(pb.WatchSessionsRequest(), **streams.calling(user)):
        if event.change.session.id == session_id and event.change.session.status == status:
            found: session_pb.Session = event.change.session
            return found
    raise AssertionError("the watch ended")


async def test_a_stream_starts_runs_and_stops(streams: Client) -> None:
    user = await streams.user()
    started = await streams.streams.StartStream(start(), **streams.calling(user))
    assert started.status == session_pb.SESSION_STATUS_STARTING
    running = await reaches(streams, user, started.id, session_pb.SESSION_STATUS_RUNNING)
    assert running.container_id
    assert running.HasField("start_time")
    stopping = await streams.streams.StopStream(
        pb.StopStreamRequest(session_id=started.id), **streams.calling(user)
    )
    assert stopping.status == session_pb.SESSION_STATUS_STOPPING
    stopped = await reaches(streams, user, started.id, session_pb.SESSION_STATUS_STOPPED)
    assert stopped.cause == session_pb.SESSION_CAUSE_USER
    found = await streams.streams.GetSession(
        pb.GetSessionRequest(session_id=started.id), **streams.calling(user)
    )
    assert found.status == session_pb.SESSION_STATUS_STOPPED
    assert found.delivery.acknowledged_bytes > 0


async def test_the_answer_never_holds_the_key(streams: Client) -> None:
    user = await streams.user()
    for request in (start(stream_key="canary-1"), start(rtmp_url=f"{INGEST}/canary-2", stream_key="")):
        session = await streams.streams.StartStream(request, **streams.calling(user))
        assert session.rtmp_url == INGEST
        assert "canary" not in str(session)


async def test_the_quota_is_named_with_its_numbers(streams: Client) -> None:
    user = await streams.user(streams_allowed=1)
    await streams.streams.StartStream(start(), **streams.calling(user))
    with refused(QuotaExceeded) as refusal:
        await streams.streams.StartStream(start(), **streams.calling(user))
    assert refusal.error.metadata["limit"] == refusal.error.metadata["active"] == "1"
    assert refusal.error.quota[0].subject == f"user:{user}"


async def test_one_key_takes_one_stream_however_it_is_spelled(streams: Client) -> None:
    user = await streams.user()
    await streams.streams.StartStream(start(stream_key="one-key"), **streams.calling(user))
    with refused(DestinationInUse):
        await streams.streams.StartStream(
            start(rtmp_url="rtmp://A.rtmp.youtube.com:1935/live2/one-key", stream_key=""),
            **streams.calling(user),
        )


async def test_a_request_id_gets_one_answer_for_one_request(streams: Client) -> None:
    user, request = await streams.user(), start(request_id=str(uuid4()))
    first = await streams.streams.StartStream(request, **streams.calling(user))
    assert await streams.streams.StartStream(request, **streams.calling(user)) == first
    request.stream_key = "another-key"
    with refused(RequestIdReused):
        await streams.streams.StartStream(request, **streams.calling(user))


async def test_a_repeat_is_answered_though_its_file_is_gone_by_now(streams: Client) -> None:
    user, request = await streams.user(), start(request_id=str(uuid4()))
    first = await streams.streams.StartStream(request, **streams.calling(user))
    (streams.media / str(user) / "loop.mp4").unlink()
    assert await streams.streams.StartStream(request, **streams.calling(user)) == first
    with refused(InvalidField, field="video_source"):
        await streams.streams.StartStream(start(request_id=str(uuid4())), **streams.calling(user))


@pytest.mark.parametrize(
    ("request_changes", "field"),
    [
        ({"rtmp_url": "not a url"}, "rtmp_url"),
        ({"rtmp_url": "http://a.rtmp.youtube.com/live2"}, "rtmp_url"),
        ({"rtmp_url": "rtmp://localhost/live2"}, "rtmp_url"),
        ({"rtmp_url": "rtmp://127.0.0.1:22/live2"}, "rtmp_url"),
        ({"rtmp_url": ""}, "rtmp_url"),
        ({"stream_key": "two words"}, "stream_key"),
        ({"video_source": "missing.mp4"}, "video_source"),
        ({"video_source": "../other/loop.mp4"}, "video_source"),
        ({"video_source": "/etc/passwd"}, "video_source"),
        ({"video_source": "file:loop.mp4"}, "video_source"),
        ({"video_source": "https://example.com/loop.mp4"}, "video_source"),
        ({"video_source": "playlist.mp4"}, "video_source"),
        ({"video_source": "text.mp4"}, "video_source"),
        ({"request_id": "not-a-uuid"}, "request_id"),
    ],
)
async def test_a_start_that_cannot_be_is_refused_by_field_and_leaves_nothing(
    streams: Client, request_changes: dict[str, str], field: str
) -> None:
    user = await streams.user()
    folder = streams.media / str(user)
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n")
    (folder / "text.mp4").write_text("no video at all")
    with refused(InvalidField, field=field):
        await streams.streams.StartStream(start(**request_changes), **streams.calling(user))
    async with streams.database.connect() as connection:
        assert await connection.fetchval("SELECT count(*) FROM public.stream_sessions") == 0
        assert await connection.fetchval("SELECT sum(streams_active) FROM public.users") == 0
        assert await connection.fetchval("SELECT count(*) FROM private.session_secrets") == 0
        assert await connection.fetchval("SELECT count(*) FROM private.idempotency") == 0


async def test_a_list_request_that_cannot_be_is_refused_by_field(streams: Client) -> None:
    user = await streams.user()
    with refused(InvalidField, field="page_size"):
        await streams.streams.ListSessions(pb.ListSessionsRequest(page_size=-1), **streams.calling(user))
    unknown = pb.ListSessionsRequest.FromString(b"\x1a\x01\x63")  # statuses: [99]
    with refused(InvalidField, field="statuses[0]"):
        await streams.streams.ListSessions(unknown, **streams.calling(user))


async def test_an_oversized_message_is_refused(streams: Client) -> None:
    user = await streams.user()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await streams.streams.StartStream(start(video_source="x" * 8_000_000), **streams.calling(user))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_token_is_needed_and_must_be_ours_and_current(streams: Client) -> None:
    user = await streams.user()
    request = pb.GetSessionRequest(session_id=str(uuid4()))
    with refused(TokenMissing):
        await streams.streams.GetSession(request)
    with refused(TokenInvalid):
        await streams.streams.GetSession(request, metadata=bearer(Issuer().token(user)))
    expired = streams.issuer.token(user, lifetime=timedelta(hours=-1))
    with refused(TokenExpired):
        await streams.streams.GetSession(request, metadata=bearer(expired))


async def test_another_users_session_does_not_exist_for_me(streams: Client) -> None:
    owner, other = await streams.user(), await streams.user()
    session = await streams.streams.StartStream(start(), **streams.calling(owner))
    with refused(ResourceNotFound):
        await streams.streams.GetSession(
            pb.GetSessionRequest(session_id=session.id), **streams.calling(other)
        )
    with refused(ResourceNotFound):
        await streams.streams.StopStream(
            pb.StopStreamRequest(session_id=session.id), **streams.calling(other)
        )
    listed = await streams.streams.ListSessions(pb.ListSessionsRequest(), **streams.calling(other))
    assert not listed.sessions


async def test_a_stop_with_an_old_etag_is_refused(streams: Client) -> None:
    user = await streams.user()
    session = await streams.streams.StartStream(start(), **streams.calling(user))
    await reaches(streams, user, session.id, session_pb.SESSION_STATUS_RUNNING)
    stop = pb.StopStreamRequest(session_id=session.id, etag=session.etag)
    with refused(EtagMismatch):
        await streams.streams.StopStream(stop, **streams.calling(user))
    with refused(InvalidField, field="etag"):
        await streams.streams.StopStream(
            pb.StopStreamRequest(session_id=session.id, etag="nonsense"), **streams.calling(user)
        )


async def test_pages_cover_the_list_and_their_tokens_are_good_only_where_they_were_given(
    streams: Client,
) -> None:
    user, other = await streams.user(streams_allowed=5), await streams.user()
    for _ in range(5):
        await streams.streams.StartStream(start(), **streams.calling(user))
    seen, token = [], ""
    while True:
        page = await streams.streams.ListSessions(
            pb.ListSessionsRequest(page_size=2, page_token=token), **streams.calling(user)
        )
        seen += [session.id for session in page.sessions]
        if not page.next_page_token:
            break
        token = page.next_page_token
    assert len(seen) == len(set(seen)) == 5
    for request, caller in (
        (pb.ListSessionsRequest(page_token=token), other),
        (pb.ListSessionsRequest(page_token=token, statuses=[session_pb.SESSION_STATUS_RUNNING]), user),
        (pb.ListSessionsRequest(page_token="made-up"), user),
    ):
        with refused(PageTokenInvalid):
            await streams.streams.ListSessions(request, **streams.calling(caller))


async def test_a_watch_gives_the_snapshot_then_a_bookmark_then_every_change(streams: Client) -> None:
    user = await streams.user()
    before = await streams.streams.StartStream(start(), **streams.calling(user))
    watch = streams.streams.WatchSessions(pb.WatchSessionsRequest(), **streams.calling(user))
    first, bookmark = await watch.read(), await watch.read()
    assert first.change.session.id == before.id
    assert first.change.kind == pb.CHANGE_KIND_ADDED
    assert bookmark.bookmark.initial_sync
    await streams.streams.StartStream(start(), **streams.calling(user))
    following = [(await watch.read()).change.revision for _ in range(3)]
    assert following == [bookmark.bookmark.revision + step for step in (1, 2, 3)]


async def test_a_watch_resumes_after_the_revision_it_saw(streams: Client) -> None:
    user = await streams.user()
    session = await streams.streams.StartStream(start(), **streams.calling(user))
    await reaches(streams, user, session.id, session_pb.SESSION_STATUS_RUNNING)
    resumed = streams.streams.WatchSessions(
        pb.WatchSessionsRequest(revision=session.revision), **streams.calling(user)
    )
    first = await resumed.read()
    assert first.change.revision == session.revision + 1


async def test_a_watch_from_a_revision_that_never_was_is_refused(streams: Client) -> None:
    user = await streams.user()
    with refused(RevisionExpired):
        await streams.streams.WatchSessions(
            pb.WatchSessionsRequest(revision=99), **streams.calling(user)
        ).read()


async def test_a_watch_sees_nothing_of_other_users(streams: Client) -> None:
    user, other = await streams.user(), await streams.user()
    watch = streams.streams.WatchSessions(pb.WatchSessionsRequest(), **streams.calling(user))
    await watch.read()
    await streams.streams.StartStream(start(), **streams.calling(other))
    mine = await streams.streams.StartStream(start(), **streams.calling(user))
    event = await watch.read()
    assert event.change.session.id == mine.id


async def test_a_watch_ends_with_its_token_and_says_where_to_resume(streams: Client) -> None:
    user = await streams.user()
    session = await streams.streams.StartStream(start(), **streams.calling(user))
    await reaches(streams, user, session.id, session_pb.SESSION_STATUS_RUNNING)
    token = streams.issuer.token(user, lifetime=timedelta(seconds=1))
    watch = streams.streams.WatchSessions(pb.WatchSessionsRequest(), metadata=bearer(token))
    last = 0
    with refused(TokenExpired):
        async for event in watch:
            last = max(last, event.change.revision, event.bookmark.revision)
    trailers = dict(await watch.trailing_metadata())
    assert trailers["streamax-last-revision"] == str(last)


async def test_two_hundred_starts_at_once_admit_exactly_three(streams: Client) -> None:
    user = await streams.user(streams_allowed=3)
    outcomes = await asyncio.gather(
        *(streams.streams.StartStream(start(), **streams.calling(user)) for _ in range(200)),
        return_exceptions=True,
    )
    admitted = [one for one in outcomes if isinstance(one, session_pb.Session)]
    codes = {one.code() for one in outcomes if isinstance(one, grpc.aio.AioRpcError)}
    assert len(admitted) == 3
    assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    async with streams.database.connect() as connection:
        assert await connection.fetch("SELECT * FROM private.slot_drift()") == []
