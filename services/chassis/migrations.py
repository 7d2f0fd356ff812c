"""Brings a database to what `sql/` says, from as many processes at once as like.

Each script is one transaction that takes a lock, looks what is left to do, does
one thing and records it; so the runners take turns, a failing script leaves
nothing behind, and no session state is needed (a transaction pooler will do).

A migration runs once and may never change afterwards. Functions and policies
run again when their text changes, after all migrations.

Whoever owns the schema `private` owns everything: `streamax_owner` where we may
have a role of our own for it, the migrating role itself on Supabase. The first
migration decides; every other script runs as that role.
"""

import hashlib
import hmac
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, Self, TypeAlias

import asyncpg

import sql

__all__ = [
    "LOGINS",
    "MigrationFailed",
    "MigrationRefused",
    "Scripts",
    "State",
    "Step",
    "migrate",
    "set_role_password",
    "status",
]

#: The roles the services log in with. They come into being without a password.
LOGINS: Final = ("streamax_users", "streamax_streams", "streamax_monitoring", "streamax_backup")

#: Any number, as long as nothing else in the database locks it.
_LOCK: Final = 0x5374_7265_616D_4158

#: A migration that cannot have its table lock gives up, or every query behind it would queue up.
_LOCK_TIMEOUT: Final = "30s"

_SCRAM_ROUNDS: Final = 4096

_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class MigrationRefused(RuntimeError):
    """The files and the database contradict each other; nothing was done. The text names the file."""


class MigrationFailed(RuntimeError):
    """A script failed and was rolled back. The text begins with its name and line."""


class State(StrEnum):
    APPLIED = "applied"
    PENDING = "pending"
    #: A migration whose file is no longer what was applied.
    CHANGED = "changed"
    #: Applied by a newer program; there is no such file here.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Step:
    """One script and where the database stands with it."""

    name: str
    state: State
    applied_at: datetime | None


@dataclass(frozen=True, slots=True)
class Scripts:
    """What is to be applied, in order."""

    migrations: tuple[sql.File, ...]
    repeatables: tuple[sql.File, ...]

    @classmethod
    def ours(cls) -> Self:
        return cls(sql.migrations(), sql.repeatables())


@dataclass(frozen=True, slots=True)
class _Applied:
    checksum: str
    at: datetime


async def migrate(dsn: str, *, scripts: Scripts | None = None) -> list[str]:
    """Apply all that is pending; the names of what this call applied, in order.

    Raises MigrationRefused, MigrationFailed, and what asyncpg raises when the
    database cannot be reached.
    """
    wanted = scripts or Scripts.ours()
    done: list[str] = []
    async with _connected(dsn) as connection:
        while (name := await _apply_next(connection, wanted)) is not None:
            done.append(name)
    return done


async def status(dsn: str, *, scripts: Scripts | None = None) -> list[Step]:
    """Every script, in the order it is or was applied. Changes nothing."""
    wanted = scripts or Scripts.ours()
    async with _connected(dsn) as connection, connection.transaction(readonly=True):
        applied = await _applied(connection)
    known = [*wanted.migrations, *wanted.repeatables]
    unknown = sorted(set(applied) - {file.name for file in known})
    return [
        *(Step(name, State.UNKNOWN, applied[name].at) for name in unknown),
        *(_step(file, applied.get(file.name)) for file in known),
    ]


async def set_role_password(dsn: str, role: str, password_file: Path) -> None:
    """Let one of LOGINS log in with the password in the file (its first line, ASCII).

    The server is sent the SCRAM verifier, so the password itself can be in no
    statement log. Raises ValueError for another role or an unusable password.
    """
    if role not in LOGINS:
        raise ValueError(f"{role} is none of {', '.join(LOGINS)}")
    lines = password_file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].isascii() or not lines[0].isprintable() or not lines[0]:
        raise ValueError(f"{password_file}: the first line is to be a password of printable ASCII characters")
    verifier = _scram_verifier(lines[0], salt=os.urandom(16))
    async with _connected(dsn) as connection:
        await connection.execute(f"ALTER ROLE {role} PASSWORD '{verifier}'")


def _scram_verifier(password: str, *, salt: bytes) -> str:
    """What pg_authid holds, RFC 5803: only from the outside does it look like a password."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ROUNDS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (b64encode(one).decode() for one in (salt, stored, server))
    return f"SCRAM-SHA-256${_SCRAM_ROUNDS}:{salt64}${stored64}:{server64}"


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[_Connection]:
    # No statement cache: a transaction pooler may give every transaction another backend.
    connection = await asyncpg.connect(
        dsn, statement_cache_size=0, server_settings={"application_name": "streamax migrate"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def _apply_next(connection: _Connection, scripts: Scripts) -> str | None:
    """Apply the first pending script in a transaction of its own; None when none is pending."""
    async with connection.transaction():
        await connection.execute("SELECT pg_catalog.pg_advisory_xact_lock($1)", _LOCK)
        # A role's own statement_timeout (Supabase sets one) is for requests, not for this.
        await connection.execute(
            "SET LOCAL search_path = ''; SET LOCAL statement_timeout = 0;"
            f" SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"
        )
        file = _next(scripts, await _applied(connection))
        if file is None:
            return None
        try:
            await connection.execute(file.text)
        except asyncpg.PostgresError as error:
            raise MigrationFailed(f"{file.name}{_line(file, error)}: {error}") from error
        await connection.execute(
            "INSERT INTO private.migrations (name, checksum) VALUES ($1, $2)"
            " ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now()",
            file.name,
            file.checksum,
        )
        return file.name


async def _applied(connection: _Connection) -> dict[str, _Applied]:
    """The record, read as the owner of everything, whom the transaction goes on as."""
    owner = await connection.fetchval(
        "SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(nspowner))"
        " FROM pg_catalog.pg_namespace WHERE nspname = 'private'"
        " AND pg_catalog.to_regclass('private.migrations') IS NOT NULL"
    )
    if owner is None:
        return {}
    await connection.execute(f"SET LOCAL ROLE {owner}")
    rows = await connection.fetch("SELECT name, checksum, applied_at FROM private.migrations")
    return {row["name"]: _Applied(row["checksum"], row["applied_at"]) for row in rows}


def _next(scripts: Scripts, applied: dict[str, _Applied]) -> sql.File | None:
    """The first script to apply. Raises MigrationRefused where files and record contradict."""
    known = {file.name for file in scripts.migrations}
    ran = [name for name in applied if "/migrations/" in name]
    if newer := sorted(set(ran) - known):
        raise MigrationRefused(f"{newer[0]} was applied by a newer program, which is the one to migrate with")
    for file in scripts.migrations:
        if file.name in applied and applied[file.name].checksum != file.checksum:
            raise MigrationRefused(
                f"{file.name} has changed since it was applied; write a new migration instead"
            )
    pending = [file for file in scripts.migrations if file.name not in applied]
    if not pending:
        return next((file for file in scripts.repeatables if _is_due(file, applied)), None)
    latest = max((file.number for file in scripts.migrations if file.name in applied), default=0)
    if pending[0].number < latest:
        raise MigrationRefused(
            f"{pending[0].name} comes before what is applied already; give it a higher number"
        )
    return pending[0]


def _is_due(file: sql.File, applied: dict[str, _Applied]) -> bool:
    return file.name not in applied or applied[file.name].checksum != file.checksum


def _step(file: sql.File, applied: _Applied | None) -> Step:
    if applied is None:
        return Step(file.name, State.PENDING, None)
    if applied.checksum == file.checksum:
        return Step(file.name, State.APPLIED, applied.at)
    return Step(file.name, State.CHANGED if file.number else State.PENDING, applied.at)


def _line(file: sql.File, error: asyncpg.PostgresError) -> str:
    position: str | None = getattr(error, "position", None)
    return f", line {file.text.count(chr(10), 0, int(position)) + 1}" if position else ""
