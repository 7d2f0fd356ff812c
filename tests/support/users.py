"""The users service in this process, on a port of its own, as its callers see it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import grpc
import jwt

from services.users.config import Config
from services.users.main import serving
from streamax.users.v1 import auth_service_pb2 as pb
from streamax.users.v1.auth_service_pb2_grpc import AuthServiceStub
from streamax.users.v1.user_admin_service_pb2_grpc import UserAdminServiceStub
from streamax.users.v1.user_service_pb2_grpc import UserServiceStub
from tests.support.database import Database

PASSWORD: Final = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Client:
    """Stubs of the service, and the database behind it."""

    auth: Any
    users: Any
    admin: Any
    database: Database
    port: int

    async def sign_up(self, email: str | None = None, password: str = PASSWORD) -> pb.SignUpResponse:
        request = pb.SignUpRequest(email=email or f"{uuid4().hex}@example.com", password=password)
        response: pb.SignUpResponse = await self.auth.SignUp(request)
        return response

    async def sign_in(self, email: str, password: str = PASSWORD) -> pb.SignInResponse:
        response: pb.SignInResponse = await self.auth.SignIn(pb.SignInRequest(email=email, password=password))
        return response

    async def refresh(self, refresh_token: str) -> pb.Tokens:
        response = await self.auth.RefreshToken(pb.RefreshTokenRequest(refresh_token=refresh_token))
        tokens: pb.Tokens = response.tokens
        return tokens

    async def sign_up_admin(self) -> pb.SignUpResponse:
        """An administrator, made as operators make one: in the database, for there is no other way."""
        response = await self.sign_up()
        await self.execute("UPDATE public.users SET role = 'admin' WHERE id = $1", UUID(response.user.id))
        return response

    async def execute(self, statement: str, *args: object) -> None:
        """As the superuser."""
        async with self.database.connect() as connection:
            await connection.execute(statement, *args)

    async def value(self, statement: str, *args: object) -> Any:
        """As the superuser."""
        async with self.database.connect() as connection:
            return await connection.fetchval(statement, *args)

    async def wait_for_waiters(self, count: int = 1) -> None:
        """Returns once so many statements of the service are queued behind a lock."""
        await self.execute(
            f"""
            DO $$
            BEGIN
              FOR attempt IN 1 .. 1000 LOOP
                PERFORM pg_stat_clear_snapshot();
                IF {count} <= (SELECT count(*) FROM pg_stat_activity
                             WHERE datname = current_database() AND wait_event_type = 'Lock') THEN
                  RETURN;
                END IF;
                PERFORM pg_sleep(0.01);
              END LOOP;
              RAISE 'too few wait';
            END
            $$
            """
        )


@asynccontextmanager
async def client_at(port: int, database: Database) -> AsyncIterator[Client]:
    """A channel of its own to a users service that runs already."""
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        yield Client(
            auth=AuthServiceStub(channel),
            users=UserServiceStub(channel),
            admin=UserAdminServiceStub(channel),
            database=database,
            port=port,
        )


@asynccontextmanager
async def client_of(config: Config, database: Database) -> AsyncIterator[Client]:
    """A users service in this process, and a channel to it."""
    async with serving(config) as server, client_at(server.port, database) as client:
        yield client


def claims_of(access_token: str) -> dict[str, Any]:
    """What the token says, unverified."""
    claims: dict[str, Any] = jwt.decode(access_token, options={"verify_signature": False})
    return claims
