"""Real databases for tests: a cluster per session, a template migrated once, a clone per test.

    async def test_something(database):
        async with database.connect("streamax_users") as connection: ...

The cluster is the embedded PostgreSQL, or another version's binaries
(STREAMAX_TEST_POSTGRES_BIN), or one that runs already (STREAMAX_TEST_DATABASE_URL,
a superuser's). Every fixture is synchronous, so tests of any kind can use them.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest

from cli.suite.postgres import EmbeddedPostgres
from services.chassis.migrations import LOGINS, migrate, set_role_password

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Database:
    """One database of one cluster."""

    name: str
    #: Of whoever may do anything here: the cluster's superuser.
    admin_dsn: str
    #: For the service roles, where the socket's folder is not protection enough.
    password: str = field(default="", repr=False)

    def dsn(self, role: str) -> str:
        """Log in as a service role."""
        return _with(self.admin_dsn, user=role, password=self.password)

    @asynccontextmanager
    async def connect(self, role: str | None = None) -> AsyncIterator[Connection]:
        """A connection of the role, or of the superuser."""
        connection = await asyncpg.connect(self.dsn(role) if role else self.admin_dsn)
        try:
            yield connection
        finally:
            await connection.close()

    def run(self, statements: str) -> None:
        """Run statements as the superuser, from wherever."""
        complete(self._execute(statements))

    def migrate(self, dsn: str) -> None:
        """Migrate it as whom `dsn` says, and let the services' roles log in."""
        complete(migrate(dsn))
        if not self.password:
            return
        with tempfile.NamedTemporaryFile("w", suffix=".password") as file:
            file.write(self.password)
            file.flush()
            for role in LOGINS:
                complete(set_role_password(self.admin_dsn, role, Path(file.name)))

    async def _execute(self, statements: str) -> None:
        async with self.connect() as connection:
            await connection.execute(statements)


@dataclass(frozen=True, slots=True)
class Cluster:
    """One PostgreSQL server."""

    admin_dsn: str
    #: Set where connections come over TCP and need one.
    password: str = field(default="", repr=False)

    def database(self, name: str) -> Database:
        return Database(name, _with(self.admin_dsn, database=name), self.password)

    @contextmanager
    def fresh(self, *, template: str = "template1", owner: str = "") -> Iterator[Database]:
        """A database of its own, dropped afterwards with whoever is still in it."""
        made = self.database(f"streamax_test_{uuid4().hex[:12]}")
        maintenance = replace(made, admin_dsn=self.admin_dsn)
        maintenance.run(
            f'CREATE DATABASE {made.name} TEMPLATE "{template}"' + (f' OWNER "{owner}"' if owner else "")
        )
        try:
            yield made
        finally:
            maintenance.run(f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The server all tests of this session share."""
    if given := os.environ.get("STREAMAX_TEST_DATABASE_URL"):
        # The same in every session against this server: its roles have one password each.
        yield Cluster(given, password=sha256(given.encode()).hexdigest())
        return
    with embedded_cluster() as server:
        yield Cluster(server.dsn())


@contextmanager
def embedded_cluster(*, superuser: str = "postgres") -> Iterator[EmbeddedPostgres]:
    """A new server, gone afterwards."""
    binaries = os.environ.get("STREAMAX_TEST_POSTGRES_BIN")
    folder = Path(tempfile.mkdtemp(prefix="streamax-test-"))
    server = EmbeddedPostgres.start(
        folder, durable=False, superuser=superuser, binaries=Path(binaries) if binaries else None
    )
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> Iterator[Database]:
    """A migrated database nobody may change: clone it."""
    with cluster.fresh() as made:
        made.migrate(made.admin_dsn)
        yield made


@pytest.fixture
def database(cluster: Cluster, template: Database) -> Iterator[Database]:
    """A migrated database for one test."""
    with cluster.fresh(template=template.name) as made:
        yield made


async def add_user(
    connection: Connection,
    *,
    email: str | None = None,
    role: str = "user",
    package_type: str | None = "creator",
    streams_allowed: int = 3,
) -> UUID:
    """A user with a package that does not expire, over the superuser's connection."""
    uid: UUID = await connection.fetchval(
        "INSERT INTO auth.users (id, email) VALUES ($1, $2) RETURNING id",
        uuid4(),
        email or f"{uuid4().hex}@example.com",
    )
    await connection.execute(
        "UPDATE public.users SET role = $2, package_type = $3, streams_allowed = $4 WHERE id = $1",
        uid,
        role,
        package_type,
        streams_allowed,
    )
    return uid


def complete(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, run to its end in a loop of its own: a test's loop may be running here."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, work).result()


def _with(dsn: str, *, user: str = "", password: str = "", database: str = "") -> str:
    parts = urlsplit(dsn)
    netloc = parts.netloc
    if user:
        netloc = f"{user}{':' + password if password else ''}@{netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc, path=f"/{database}" if database else parts.path))
