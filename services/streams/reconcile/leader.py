"""What the one leading process does besides serving: reconcile, measure, trim."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.loops import Counts, Loop
from services.chassis.vault import Vault
from services.streams import store
from services.streams.config import ReconcileConfig, WatchConfig
from services.streams.reconcile.loop import DeliveryRecorder, Reconciler, Settings
from services.streams.runtime import Runtime
from services.streams.wake import Waker


@dataclass(frozen=True, slots=True, kw_only=True)
class Leader:
    """Runs the reconciler and its companions while this process leads."""

    database: Database
    #: Opened by whoever leads, and only then.
    open_runtime: Callable[[], Runtime]
    vault: Vault
    waker: Waker
    clock: Clock
    settings: Settings
    every: ReconcileConfig
    watch: WatchConfig

    async def work(self, epoch: int) -> None:
        """Until cancelled. Containers go on when it ends; whoever leads next adopts them."""
        async with AsyncExitStack() as stack:
            runtime = self.open_runtime()
            stack.push_async_callback(runtime.close)
            reconciler = Reconciler(
                database=self.database,
                runtime=runtime,
                vault=self.vault,
                waker=self.waker,
                clock=self.clock,
                settings=self.settings,
                epoch=epoch,
            )
            stack.push_async_callback(reconciler.close)
            loop = Loop("reconcile", reconciler.run_once, interval=self.every.every, clock=self.clock)
            reconciler.changed = loop.wake
            stack.enter_context(self.waker.listening(lambda _: loop.wake()))
            recorder = DeliveryRecorder(database=self.database, runtime=runtime, epoch=epoch)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(loop.run(), name="reconcile")
                tasks.create_task(_wake_by_hints(runtime, loop), name="engine hints")
                for name, run_once, interval in (
                    ("delivery", recorder.run_once, self.every.record_every),
                    ("trim changes", self._trim(epoch), timedelta(hours=1)),
                ):
                    companion = Loop(name, run_once, interval=interval, clock=self.clock)
                    tasks.create_task(companion.run(), name=name)

    def _trim(self, epoch: int) -> Callable[[], Awaitable[Counts]]:
        async def trim() -> Counts:
            keep = self.watch.keep.total_seconds()
            return {"trimmed": await store.trim_changes(self.database, epoch, keep_seconds=keep)}

        return trim


async def _wake_by_hints(runtime: Runtime, loop: Loop) -> None:
    async for _ in runtime.hints():
        loop.wake()
