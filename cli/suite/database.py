"""The suite's PostgreSQL: the one it is given, or an embedded one gone with the suite."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit
from uuid import UUID

from cli.suite.files import write_secret
from cli.suite.postgres import EmbeddedPostgres
from services.chassis.database import DatabaseConfig, connect
from services.chassis.migrations import LOGINS, migrate, set_role_password

__all__ = ["Store", "open_store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A migrated database."""

    #: Of whoever may do anything here.
    admin_dsn: str = field(repr=False)
    embedded: bool
    #: By role; none where the socket's folder is the gate.
    passwords: Mapping[str, Path]

    def login(self, role: str) -> dict[str, object]:
        """The `database` table of a service's configuration."""
        table: dict[str, object] = {"url": _as_user(self.admin_dsn, role)}
        if role in self.passwords:
            table["password_file"] = str(self.passwords[role])
        return table

    async def version(self) -> str:
        return f"PostgreSQL {await self._ask('SHOW server_version')}"

    async def make_admin(self, user_id: UUID) -> None:
        """What an operator does in the database, for no API makes the first administrator."""
        await self._ask("UPDATE public.users SET role = 'admin' WHERE id = $1", user_id)

    async def _ask(self, statement: str, *values: object) -> Any:
        connection = await connect(DatabaseConfig(url=self.admin_dsn), application_name="streamax suite")
        try:
            return await connection.fetchval(statement, *values)
        finally:
            await connection.close()


@asynccontextmanager
async def open_store(folder: Path, url: str | None) -> AsyncIterator[Store]:
    """The database at `url`, where everything stays, or an embedded one below `folder`.

    Raises PostgresFailed, MigrationRefused, MigrationFailed, and what asyncpg
    raises when `url` cannot be reached.
    """
    if url is not None:
        await migrate(url)
        yield Store(admin_dsn=url, embedded=False, passwords=await _let_in(folder, url))
        return
    async with _embedded(folder / "postgres") as server:
        await migrate(server.dsn())
        yield Store(admin_dsn=server.dsn(), embedded=True, passwords={})


@asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    starting = asyncio.create_task(
        asyncio.to_thread(EmbeddedPostgres.start, folder, durable=False, copies=folder.parent)
    )
    try:
        # A thread cannot be interrupted: we wait until what it began can be ended.
        yield await asyncio.shield(starting)
    finally:
        await asyncio.wait([starting])
        if starting.exception() is None:
            await asyncio.to_thread(starting.result().remove)


async def _let_in(folder: Path, url: str) -> dict[str, Path]:
    """New passwords for the services' roles, one file each."""
    files = {role: folder / f"{role}.password" for role in LOGINS}
    for role, file in files.items():
        write_secret(file, secrets.token_urlsafe(24))
        await set_role_password(url, role, file)
    return files


def _as_user(dsn: str, user: str) -> str:
    """The same place for another user, without a password."""
    parts = urlsplit(dsn)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}@{place}"))
