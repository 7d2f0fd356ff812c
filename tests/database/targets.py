"""What the exploits are run against: the seed, which falls, and ours on either shape, which does not."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from tests.support.database import Connection, Database

REFUSED: Final = "42501"

_COUNT = re.compile(r"(?:INSERT 0|UPDATE|DELETE|SELECT) (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one statement."""

    #: Rows returned or changed; None when it was refused, or counts nothing.
    rows: int | None
    #: SQLSTATE and message of the refusal.
    refusal: tuple[str, str] | None

    @property
    def succeeded(self) -> bool:
        return self.refusal is None

    def refused(self, sqlstate: str, message: str = "") -> bool:
        return self.refusal is not None and self.refusal[0] == sqlstate and message in self.refusal[1]


@dataclass(frozen=True, slots=True)
class Target:
    """One database under attack."""

    name: str
    database: Database
    #: The seed: every exploit works.
    falls: bool

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Connection]:
        """The superuser's connection, to set the stage and to see what has come of it."""
        async with self.database.connect() as connection:
            yield connection


@asynccontextmanager
async def acting(connection: Connection, role: str, sub: UUID | str | None = None) -> AsyncIterator[None]:
    """Statements inside run with the rights of `role` and the token of `sub`, as PostgREST runs them."""
    claims = f'{{"sub": "{sub}", "role": "{role}"}}' if sub else ""
    await connection.execute("SELECT set_config('request.jwt.claims', $1, false)", claims)
    await connection.execute(f"SET ROLE {role}")
    try:
        yield
    finally:
        await connection.execute("RESET ROLE")


async def attempt(
    connection: Connection,
    statement: str,
    *,
    role: str = "",
    sub: UUID | str | None = None,
    undo: bool = False,
) -> Outcome:
    """What one statement does. What it did stays, unless it is to be undone."""
    if role:
        async with acting(connection, role, sub):
            return await attempt(connection, statement, undo=undo)
    transaction = connection.transaction()
    await transaction.start()
    try:
        status = await connection.execute(statement)
        # Deferred checks are part of what a statement meets.
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except asyncpg.PostgresError as error:
        await transaction.rollback()
        return Outcome(None, (error.sqlstate or "", str(error.args[0])))
    await (transaction.rollback() if undo else transaction.commit())
    counted = _COUNT.fullmatch(status)
    return Outcome(int(counted[1]) if counted else None, None)


async def user(
    connection: Connection, *, role: str = "user", allowed: int = 3, package: str = "creator"
) -> UUID:
    """A user of either schema."""
    uid: UUID = await connection.fetchval(
        "INSERT INTO auth.users (id, email) VALUES ($1, $2) RETURNING id",
        uuid4(),
        f"{uuid4().hex}@example.com",
    )
    await connection.execute(
        "UPDATE public.users SET role = $2, streams_allowed = $3, package_type = $4,"
        " package_expires_at = now() + interval '1 day' WHERE id = $1",
        uid,
        role,
        allowed,
        package,
    )
    return uid


async def active(connection: Connection, uid: UUID) -> int:
    """The count of slots taken."""
    count: int = await connection.fetchval("SELECT streams_active FROM public.users WHERE id = $1", uid)
    return count


async def start(connection: Connection, uid: UUID, *, target: bytes | None = None) -> UUID:
    """A session by the front door of our own schema."""
    session: UUID = await connection.fetchval(
        "SELECT id"
        " FROM private.start_stream($1, $2, 'film.mp4', 'rtmp://a.example/live', $3, $4, NULL, NULL)",
        uid,
        uuid4(),
        target or uuid4().bytes,
        b"sealed",
    )
    return session
