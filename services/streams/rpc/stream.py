"""A user's own streams."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.chassis import pages
from services.chassis.auth import current_principal, require_user
from services.chassis.database import Database
from services.chassis.errors import ResourceNotFound
from services.chassis.layers.call import Context
from services.streams import store, wire
from services.streams.admission import Admission, Wish
from services.streams.model import Change, Session
from services.streams.wake import Waker
from services.streams.watch import Bookmark, Watch
from streamax.streams.v1 import session_pb2, stream_service_pb2
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceServicer

_PAGE_DEFAULT = 50
_PAGE_MAXIMUM = 500

#: Where a watch that ended may be resumed.
_LAST_REVISION = "streamax-last-revision"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamService(StreamServiceServicer):
    """streamax.streams.v1.StreamService."""

    database: Database
    admission: Admission
    pages: pages.PageTokens
    waker: Waker
    watch: Watch

    async def StartStream(
        self, request: stream_service_pb2.StartStreamRequest, context: Context
    ) -> session_pb2.Session:
        wish = Wish(
            video_source=request.video_source,
            rtmp_url=request.rtmp_url,
            stream_key=request.stream_key,
            request_id=wire.optional_uuid(request.request_id),
        )
        session = await self.admission.start(require_user(), wish)
        self.waker.touched(session.user_id)
        return wire.session_message(session)

    async def StopStream(
        self, request: stream_service_pb2.StopStreamRequest, context: Context
    ) -> session_pb2.Session:
        session = await store.request_stop(
            self.database,
            require_user(),
            UUID(request.session_id),
            revision=wire.revision_of(request.etag),
        )
        self.waker.touched(session.user_id)
        return wire.session_message(session)

    async def GetSession(
        self, request: stream_service_pb2.GetSessionRequest, context: Context
    ) -> session_pb2.Session:
        session = await store.get_session(self.database, require_user(), UUID(request.session_id))
        if session is None:
            raise ResourceNotFound.of("Session", request.session_id)
        return wire.session_message(session)

    async def ListSessions(
        self, request: stream_service_pb2.ListSessionsRequest, context: Context
    ) -> stream_service_pb2.ListSessionsResponse:
        caller, statuses = require_user(), wire.statuses(request)
        size = pages.clamp(request.page_size, default=_PAGE_DEFAULT, maximum=_PAGE_MAXIMUM)
        scope = f"ListSessions {caller} {sorted(statuses)}"
        before = self._position(request.page_token, scope) if request.page_token else None
        sessions = await store.list_sessions(
            self.database, caller, statuses=statuses, before=before, limit=size + 1
        )
        page, more = sessions[:size], len(sessions) > size
        return stream_service_pb2.ListSessionsResponse(
            sessions=[wire.session_message(session) for session in page],
            next_page_token=self._token(page[-1], scope) if more else "",
        )

    def _token(self, last: Session, scope: str) -> str:
        return self.pages.encode([last.created_at.isoformat(), str(last.id)], scope=scope)

    def _position(self, token: str, scope: str) -> tuple[datetime, UUID]:
        created_at, session_id = self.pages.decode(token, scope=scope)
        return datetime.fromisoformat(str(created_at)), UUID(str(session_id))

    async def WatchSessions(
        self, request: stream_service_pb2.WatchSessionsRequest, context: Context
    ) -> AsyncIterator[stream_service_pb2.WatchSessionsResponse]:
        caller = require_user()
        expires_at = current_principal().expires_at
        async with aclosing(self.watch.follow(caller, request.revision, until=expires_at)) as events:
            async for event in events:
                context.set_trailing_metadata(((_LAST_REVISION, str(event.revision)),))
                match event:
                    case Bookmark():
                        yield wire.bookmark_message(event.revision, initial_sync=event.initial_sync)
                    case Change():
                        yield wire.change_message(event)
