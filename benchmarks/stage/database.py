"""A PostgreSQL of our own, as durable as one in production, over a unix socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cli.suite.postgres import EmbeddedPostgres
from services.chassis.migrations import migrate
from tests.support.database import Cluster, Database

__all__ = ["cluster", "migrated"]


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A server, gone with its data afterwards."""
    server = await asyncio.to_thread(EmbeddedPostgres.start, folder / "postgres")
    try:
        yield Cluster(server.dsn())
    finally:
        await asyncio.to_thread(server.remove)


@asynccontextmanager
async def migrated(server: Cluster) -> AsyncIterator[Database]:
    """A database with our schema in it and nothing else."""
    with server.fresh() as made:
        await migrate(made.admin_dsn)
        yield made
