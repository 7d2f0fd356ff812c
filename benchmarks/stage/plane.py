"""A reconciler in this process, over the simulated engine, whose passes can be timed one by one."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import UUID

from encoder.job import Limits
from services.chassis.clock import SystemClock
from services.chassis.database import Database, DatabaseConfig
from services.chassis.identifiers import new_id
from services.chassis.vault import Vault
from services.streams import store
from services.streams.admission import key_context
from services.streams.model import Status
from services.streams.reconcile.loop import Reconciler, Settings
from services.streams.reconcile.plan import Patience
from services.streams.runtime.memory import Engine, MemoryRuntime
from services.streams.wake import Waker
from tests.support import database as support

__all__ = ["Plane", "plane"]

_PATIENCE: Final = 300.0


class Plane:
    """Some sessions, all running, and who looks after them."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler

    async def timed_pass(self) -> float:
        """Seconds of one pass that finds everything as it should be."""
        begun = time.perf_counter()
        counts = await self._reconciler.run_once()
        took = time.perf_counter() - begun
        if counts:
            raise RuntimeError(f"something was not at rest: {counts}")
        return took


@asynccontextmanager
async def plane(database: support.Database, *, users: int, sessions: int) -> AsyncIterator[Plane]:
    """The sessions shared out among the users."""
    vault, clock = Vault([os.urandom(32)]), SystemClock()
    runtime = MemoryRuntime(Engine(clock))
    config = DatabaseConfig(url=database.dsn("streamax_streams"))
    async with Database(config, application_name="streamax benchmark") as db:
        reconciler = Reconciler(
            database=db,
            runtime=runtime,
            vault=vault,
            waker=Waker(db),
            clock=clock,
            settings=Settings(media_root=Path("/media"), limits=Limits(), patience=Patience()),
            epoch=await db.fetchval("SELECT private.take_leadership('streams', 'benchmark')"),
        )
        try:
            async with database.connect() as connection:
                owners = [await support.add_user(connection, streams_allowed=sessions) for _ in range(users)]
            for number in range(sessions):
                await _admit(db, vault, owners[number % users], number)
            await _settle(db, reconciler)
            yield Plane(reconciler)
        finally:
            await reconciler.close()
            await runtime.close()


async def _admit(db: Database, vault: Vault, owner: UUID, number: int) -> None:
    session_id, key = new_id(), f"key-{number}".encode()
    await store.start_stream(
        db,
        owner,
        store.NewSession(
            id=session_id,
            video_source="loop.mp4",
            rtmp_url="rtmp://a.rtmp.youtube.com/live2",
            target_hash=vault.fingerprint(key, purpose="target"),
            sealed_key=vault.seal(key, context=key_context(session_id)),
            request_id=None,
            fingerprint=b"",
        ),
    )


async def _settle(db: Database, reconciler: Reconciler) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            await reconciler.run_once()
            await reconciler.idle()
            if all(one.status is Status.RUNNING for one in await store.held_sessions(db)):
                return
            await asyncio.sleep(0.1)
