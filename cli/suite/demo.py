"""A user's way through the API, as any client goes it: sign up, be given a package, stream, stop."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from grpc import aio

from services.chassis.channel import ChannelConfig, open_channel
from streamax.streams.v1.session_pb2 import Session, SessionCause, SessionStatus
from streamax.streams.v1.stream_service_pb2 import (
    GetSessionRequest,
    ListSessionsRequest,
    StartStreamRequest,
    StopStreamRequest,
)
from streamax.streams.v1.stream_service_pb2_grpc import StreamServiceStub
from streamax.users.v1.auth_service_pb2 import SignUpRequest
from streamax.users.v1.auth_service_pb2_grpc import AuthServiceStub
from streamax.users.v1.user_admin_service_pb2 import GrantPackageRequest
from streamax.users.v1.user_admin_service_pb2_grpc import UserAdminServiceStub
from streamax.users.v1.user_pb2 import PACKAGE_TYPE_CREATOR

__all__ = ["Account", "Row", "Streams", "grant_package", "sign_up", "streams_of"]

#: A call takes milliseconds and a sign-up a password's hash, 0.2 s; a full machine takes longer.
PATIENCE: Final = timedelta(seconds=20)
#: Between two looks at a session that is to end, seconds.
LOOK: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One that has signed up."""

    id: UUID
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One session, as people see it."""

    session_id: UUID
    #: "starting", "running", "stopping", "stopped" or "error".
    status: str
    #: Empty while all is well, otherwise with a sentence in `detail`.
    cause: str
    detail: str
    #: Media seconds and bytes that the receiving kernel acknowledged.
    delivered_seconds: float
    acknowledged_bytes: int
    bitrate_kbps: float
    attempts: int

    @property
    def ended(self) -> bool:
        return self.status in ("stopped", "error")


async def sign_up(users_address: str, name: str) -> Account:
    """A new account, whose address is nobody's. Raises grpc.aio.AioRpcError, as all calls here do."""
    email = f"{name}-{secrets.token_hex(4)}@example.com"
    password = secrets.token_urlsafe(16)
    async with _channel(users_address) as channel:
        response = await AuthServiceStub(channel).SignUp(SignUpRequest(email=email, password=password))
    return Account(
        id=UUID(response.user.id), email=email, password=password, token=response.tokens.access_token
    )


async def grant_package(users_address: str, *, admin: Account, user: Account) -> None:
    """The creator package for the user, from the admin."""
    async with _channel(users_address, admin) as channel:
        request = GrantPackageRequest(
            user_id=str(user.id), package_type=PACKAGE_TYPE_CREATOR, request_id=str(uuid4())
        )
        await UserAdminServiceStub(channel).GrantPackage(request)


class Streams:
    """One user's streams; made by `streams_of`."""

    def __init__(self, channel: aio.Channel) -> None:
        self._stub = StreamServiceStub(channel)

    async def start(self, *, video_source: str, rtmp_url: str, stream_key: str) -> Row:
        request = StartStreamRequest(
            video_source=video_source, rtmp_url=rtmp_url, stream_key=stream_key, request_id=str(uuid4())
        )
        return _row(await self._stub.StartStream(request))

    async def rows(self) -> Sequence[Row]:
        """All sessions, newest first."""
        return [_row(one) for one in (await self._stub.ListSessions(ListSessionsRequest())).sessions]

    async def stop(self, session_id: UUID) -> Row:
        """Stops it and waits for its end, for as long as that takes."""
        row = _row(await self._stub.StopStream(StopStreamRequest(session_id=str(session_id))))
        while not row.ended:
            await asyncio.sleep(LOOK)
            row = _row(await self._stub.GetSession(GetSessionRequest(session_id=str(session_id))))
        return row


@asynccontextmanager
async def streams_of(user: Account, streams_address: str) -> AsyncIterator[Streams]:
    async with _channel(streams_address, user) as channel:
        yield Streams(channel)


def _channel(address: str, caller: Account | None = None) -> aio.Channel:
    async def token() -> str | None:
        return caller.token if caller else None

    return open_channel(ChannelConfig(target=address, timeout=PATIENCE), identity=token)


def _row(session: Session) -> Row:
    return Row(
        session_id=UUID(session.id),
        status=_word(SessionStatus.Name(session.status), "SESSION_STATUS_"),
        cause=_word(SessionCause.Name(session.cause), "SESSION_CAUSE_"),
        detail=session.cause_detail,
        delivered_seconds=session.delivery.delivered_seconds,
        acknowledged_bytes=session.delivery.acknowledged_bytes,
        bitrate_kbps=session.delivery.bitrate_kbps,
        attempts=session.delivery.attempts,
    )


def _word(name: str, prefix: str) -> str:
    word = name.removeprefix(prefix).lower()
    return "" if word == "unspecified" else word
