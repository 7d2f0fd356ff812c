"""The reconciler's seeing and doing, around the pure plan."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from encoder.job import Limits
from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.loops import Counts
from services.chassis.vault import Vault
from services.streams import store
from services.streams.admission import key_context
from services.streams.model import Cause, Held, Order, Status
from services.streams.reconcile import plan
from services.streams.reconcile.pace import Pace
from services.streams.runtime import Container, Launch, LaunchRefused, Runtime
from services.streams.wake import Waker

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the reconciler does not decide itself."""

    media_root: Path
    limits: Limits
    patience: plan.Patience
    #: A stream this long live has earned a fresh backoff.
    healthy: timedelta = timedelta(minutes=2)
    #: Engine operations under way at once.
    concurrency: int = 8


class Reconciler:
    """Makes what is wanted so. One at a time in a deployment: the loop leader's.

    A pass sees, plans, and hands each session's actions to a task of its own, so
    that a slow stop delays nobody. Sessions with a task under way are left out
    of the next plan.
    """

    def __init__(
        self,
        *,
        database: Database,
        runtime: Runtime,
        vault: Vault,
        waker: Waker,
        clock: Clock,
        settings: Settings,
        epoch: int,
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._vault = vault
        self._waker = waker
        self._clock = clock
        self._settings = settings
        self._epoch = epoch
        self._pace = Pace()
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._engine = asyncio.Semaphore(settings.concurrency)
        #: Called when a task has changed what the next pass will see.
        self.changed: Callable[[], None] = lambda: None

    async def run_once(self) -> Counts:
        """One pass. Raises EngineUnavailable: then nothing is concluded."""
        busy = set(self._tasks)
        # In this order: a container listed before the sessions were read has had
        # its session committed, so one without a session is certainly an orphan.
        containers = await self._runtime.list()
        held = await store.held_sessions(self._database)
        busy |= set(self._tasks)
        self._settle_pace(held, containers)
        todo = plan.make_plan(
            [session for session in held if session.id not in busy],
            [container for container in containers if container.session_id not in busy],
            now=self._clock.now(),
            patience=self._settings.patience,
            not_before=self._pace.not_before,
        )
        for session_id, actions in todo.actions.items():
            self._begin(session_id, actions)
        return _count(todo)

    async def idle(self) -> None:
        """Wait until no action is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def close(self) -> None:
        """Break off what is under way; a successor takes it up from what it sees."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _settle_pace(self, held: Sequence[Held], containers: Iterable[Container]) -> None:
        self._pace.keep({session.id for session in held})
        proven = self._clock.now().timestamp() - self._settings.healthy.total_seconds()
        self._pace.forget(
            container.session_id
            for container in containers
            if container.report
            and container.report.first_media_at
            and container.report.first_media_at < proven
        )

    def _begin(self, session_id: UUID, actions: Sequence[plan.Action]) -> None:
        task = asyncio.create_task(self._apply(actions), name=f"reconcile {session_id}")
        self._tasks[session_id] = task
        task.add_done_callback(lambda done: self._ended(session_id, done))

    def _ended(self, session_id: UUID, task: asyncio.Task[None]) -> None:
        del self._tasks[session_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("reconcile action failed", extra={"session_id": str(session_id)}, exc_info=error)
        else:
            self.changed()

    async def _apply(self, actions: Sequence[plan.Action]) -> None:
        for action in actions:
            match action:
                case plan.Launch():
                    await self._launch(action)
                case plan.Stop():
                    _log.info(
                        "stopping container",
                        extra={"container_id": action.container.id, "reason": action.reason},
                    )
                    async with self._engine:
                        await self._runtime.stop(action.container.id)
                case plan.Remove():
                    await self._remove(action.container)
                case plan.Record():
                    await self._record(action)

    async def _launch(self, action: plan.Launch) -> None:
        self._pace.launched(action.session_id, self._clock.now())
        order = await store.take_order(
            self._database, self._epoch, action.session_id, action.generation, renew=action.renew
        )
        if order is None:
            return
        try:
            async with self._engine:
                await self._runtime.launch(self._launch_of(order))
        except LaunchRefused as refusal:
            _log.error(
                "engine refuses to launch",
                extra={"session_id": str(order.session_id), "refusal": str(refusal)},
            )
            await self._note_refusal(order)
        if action.renew:
            self._waker.touched(order.user_id)

    def _launch_of(self, order: Order) -> Launch:
        key = self._vault.unseal(order.sealed_key, context=key_context(order.session_id))
        return Launch(
            session_id=order.session_id,
            generation=order.generation,
            media_folder=self._settings.media_root / str(order.user_id),
            source=order.video_source,
            destination=order.rtmp_url,
            stream_key=key.decode(),
            limits=self._settings.limits,
        )

    async def _note_refusal(self, order: Order) -> None:
        await store.record_observation(
            self._database,
            self._epoch,
            store.Observation(
                session_id=order.session_id,
                generation=order.generation,
                status=Status.STARTING,
                cause=Cause.HOST_LOST,
                cause_detail="The host cannot start the encoder; operators know, and it is being retried.",
                container_id=None,
                started_at=None,
            ),
        )
        self._waker.touched(order.user_id)

    async def _remove(self, container: Container) -> None:
        await store.record_delivery(self._database, self._epoch, measurements((container,)))
        async with self._engine:
            await self._runtime.remove(container.id)

    async def _record(self, action: plan.Record) -> None:
        taken = await store.record_observation(
            self._database,
            self._epoch,
            store.Observation(
                session_id=action.session_id,
                generation=action.generation,
                status=action.status,
                cause=action.cause,
                cause_detail=action.cause_detail,
                container_id=action.container_id,
                started_at=action.started_at,
            ),
        )
        if taken:
            self._waker.touched(action.user_id)


class DeliveryRecorder:
    """Writes the encoders' counters down, all in one statement, those that moved."""

    def __init__(self, *, database: Database, runtime: Runtime, epoch: int) -> None:
        self._database = database
        self._runtime = runtime
        self._epoch = epoch
        self._written: dict[str, float] = {}

    async def run_once(self) -> Counts:
        """One round. Raises EngineUnavailable."""
        containers = [one for one in await self._runtime.list() if one.report]
        moved = [one for one in containers if one.report and self._written.get(one.id) != one.report.at]
        if moved:
            await store.record_delivery(self._database, self._epoch, measurements(moved))
        self._written = {one.id: one.report.at for one in containers if one.report}
        return {}


def measurements(containers: Iterable[Container]) -> list[store.Measurement]:
    """The counters of those containers that have reported."""
    return [
        store.Measurement(
            session_id=container.session_id,
            generation=container.generation,
            delivered_seconds=report.delivered_seconds,
            acknowledged_bytes=report.acknowledged_bytes,
            bitrate_kbps=report.bitrate_kbps,
            attempts=report.attempt,
            measured_at=datetime.fromtimestamp(report.at, tz=UTC),
        )
        for container in containers
        if (report := container.report) is not None
    ]


def _count(todo: plan.Plan) -> Counts:
    counts: dict[str, int] = {}
    for actions in todo.actions.values():
        for action in actions:
            name = type(action).__name__.lower()
            counts[name] = counts.get(name, 0) + 1
    return counts
