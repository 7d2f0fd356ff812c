"""`make run`: everything up, one video streaming for all to see, everything down again.

What is started goes on one stack and is taken down in reverse, however the run
ends: by itself, by a failure, or by a signal at any moment.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from asyncpg import PostgresError
from grpc import aio
from rich.console import Console

from cli.suite import configuration, demo
from cli.suite.control import serving as serving_control
from cli.suite.database import Store, open_store
from cli.suite.demo import Account, Row, Streams
from cli.suite.engine import Engine, choose_engine
from cli.suite.files import run_folder, write_secret
from cli.suite.introduction import Call, Part, parts, shell
from cli.suite.media import SampleFailed, make_sample
from cli.suite.postgres import PostgresFailed
from cli.suite.services import Service, ServiceFailed, serving
from cli.suite.signals import cancelled_by_signals, this_task
from cli.suite.sink import Sink
from cli.suite.table import board, say
from services.chassis.config import load
from services.chassis.migrations import MigrationFailed, MigrationRefused
from services.chassis.vault import Vault
from services.streams.config import Config as StreamsConfig
from services.streams.main import open_runtime

__all__ = ["Options", "run"]

T = TypeVar("T")

#: Seconds between two looks at the sessions.
LOOK: Final = 0.5
#: Seconds from StopStream to STOPPED; one is usual.
STOP: Final = 30.0
#: Whatever may go wrong that is told in a sentence; anything else is a bug and shows its traceback.
_TOLD: Final = (
    *(PostgresFailed, PostgresError, MigrationFailed, MigrationRefused),
    *(SampleFailed, ServiceFailed, aio.AioRpcError, OSError),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    #: Seconds to stream for; None: until a signal.
    duration: float | None
    #: A superuser's, of a database to use; None: an embedded one.
    database_url: str | None = field(repr=False)
    #: Where a Docker Engine would be.
    docker_host: str
    #: Given to the services.
    environment: Mapping[str, str] = field(repr=False)


@dataclass(slots=True)
class Outcome:
    """What the last line says."""

    row: Row | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        return (
            not self.problems
            and self.row is not None
            and self.row.status == "stopped"
            and self.row.acknowledged_bytes > 0
        )

    def __str__(self) -> str:
        row = self.row
        delivered, size, status = (
            (row.delivered_seconds, row.acknowledged_bytes, row.status) if row else (0.0, 0, "never started")
        )
        return f"main job: delivered {delivered:.1f} s, {size} bytes acknowledged, status {status}"


async def run(options: Options, console: Console) -> int:
    """The exit status: 0 when media was acknowledged and everything ended as it should."""
    outcome = Outcome()
    with cancelled_by_signals():
        try:
            async with AsyncExitStack() as stack:
                await _Run(options, console, stack, outcome).go()
        except asyncio.CancelledError:
            outcome.problems.append("interrupted before the stream began")
        except _TOLD as error:
            outcome.problems.append(_told(error))
    for problem in outcome.problems:
        say(console, f"problem: {problem}")
    say(console, str(outcome))
    return 0 if outcome.success else 1


@dataclass(slots=True)
class _Run:
    _options: Options
    _console: Console
    _stack: AsyncExitStack
    _outcome: Outcome
    _began: float = field(default_factory=time.monotonic)

    async def go(self) -> None:
        enter = self._stack.enter_async_context
        folder = self._stack.enter_context(run_folder())
        write_secret(folder / configuration.VAULT, Vault.new_key())
        self._say(f"StreamAX in {folder}")
        sample = await enter(_begun(make_sample(folder / "sample.mp4")))
        choosing = await enter(
            _begun(choose_engine(self._options.docker_host, folder=folder, tell=self._say))
        )

        store = await enter(open_store(folder, self._options.database_url))
        users = await self._service("users", folder, configuration.users(folder, store))
        admin, user = await self._accounts(store, users)

        engine = await choosing
        sink = await enter(Sink(engine.sink_host))
        control = await enter(serving_control(sink))
        config = configuration.streams(
            folder,
            store,
            users_address=users.address,
            engine=engine,
            ingest=f"rtmp://{sink.host}:{sink.port}",
        )
        self._stack.push_async_callback(self._clear, folder / "streams.toml")
        streams = await self._service("streams", folder, config)

        await self._introduce(store, engine, sink, (users, streams))
        self._explain(users, streams, admin=admin, user=user)
        self._say(f"make the ingest misbehave: curl -X POST http://127.0.0.1:{control}/freeze (then /accept)")
        _give(await sample, user, folder / configuration.MEDIA)
        async with demo.streams_of(user, streams.address) as theirs:
            await self._stream(theirs, sink, (users, streams))

    async def _service(self, name: str, folder: Path, config: Mapping[str, object]) -> Service:
        return await self._stack.enter_async_context(
            serving(name, config, folder=folder, environment=self._options.environment)
        )

    async def _accounts(self, store: Store, users: Service) -> tuple[Account, Account]:
        admin, user = await asyncio.gather(
            demo.sign_up(users.address, "admin"), demo.sign_up(users.address, "user")
        )
        await store.make_admin(admin.id)
        await demo.grant_package(users.address, admin=admin, user=user)
        self._say(f"{admin.email} signed up and was made an admin in the database, as an operator does it")
        self._say(f"{user.email} signed up and was granted the creator package by the admin")
        return admin, user

    async def _stream(self, streams: Streams, sink: Sink, services: Sequence[Service]) -> None:
        key = secrets.token_urlsafe(16).strip("-_")
        row = await streams.start(video_source="sample.mp4", rtmp_url=sink.url(), stream_key=key)
        self._outcome.row = row
        try:
            async with asyncio.timeout(self._options.duration):
                await self._watch(streams, services)
        except TimeoutError:
            self._say("time is up")
        except asyncio.CancelledError:
            # The signal has said all it had to say; what follows is the end, and must not be cut short.
            this_task().uncancel()
            self._say("stopping")
        await self._stop(streams, row)
        self._judge(sink, key)

    async def _watch(self, streams: Streams, services: Sequence[Service]) -> None:
        """Until cancelled. Raises ServiceFailed."""
        with board(self._console) as shown:
            flowing = False
            while True:
                for service in services:
                    service.check()
                rows = await streams.rows()
                if not flowing and any(row.status == "running" for row in rows):
                    flowing = True
                    self._say(
                        f"first media acknowledged {time.monotonic() - self._began:.1f} s after the start"
                    )
                shown.show(rows)
                await asyncio.sleep(LOOK)

    async def _stop(self, streams: Streams, row: Row) -> None:
        try:
            async with asyncio.timeout(STOP):
                self._outcome.row = await streams.stop(row.session_id)
        except TimeoutError:
            self._outcome.problems.append(f"the stream did not end within {STOP:.0f} s")

    def _judge(self, sink: Sink, key: str) -> None:
        """What the other end saw."""
        record = sink.key(key)
        self._say(
            f"the ingest received {record.media_bytes} bytes of media "
            f"from {len(record.publications)} publisher(s)"
        )
        if record.publisher:
            self._outcome.problems.append("somebody still publishes")
        if record.overlaps:
            self._outcome.problems.append(f"two published on one key, {record.overlaps} times")

    async def _clear(self, config: Path) -> None:
        """No encoder outlives the suite, even if the service that should have ended it is gone."""
        if not config.exists():
            return
        runtime = open_runtime(load(StreamsConfig, config))
        try:
            left = await runtime.list()
            await asyncio.gather(*(runtime.stop(one.id) for one in left))
            await asyncio.gather(*(runtime.remove(one.id) for one in left))
        finally:
            await runtime.close()
        if left:
            self._outcome.problems.append(f"{len(left)} encoder(s) were left and had to be ended by force")

    async def _introduce(self, store: Store, engine: Engine, sink: Sink, services: Sequence[Service]) -> None:
        fate = (
            "gone at the end"
            if store.embedded
            else "yours: it keeps the accounts and new passwords of the roles"
        )
        listed = [
            Part("database", store.embedded, f"{await store.version()}, {fate}"),
            Part("runtime", engine.embedded, engine.runtime),
            Part("ffmpeg", True, engine.ffmpeg),
            Part("ingest", True, sink.url()),
            *(Part(one.name, False, f"{one.address}, its log is {one.log}") for one in services),
        ]
        for line in parts(listed):
            self._say(line)

    def _explain(self, users: Service, streams: Service, *, admin: Account, user: Account) -> None:
        api, sessions = "streamax.users.v1", "streamax.streams.v1.StreamService"
        sign_in = {"email": user.email, "password": user.password}
        grant = {"user_id": str(user.id), "package_type": "PACKAGE_TYPE_PRO"}
        calls = [
            Call(users.address, f"{api}.AuthService/SignIn", json.dumps(sign_in)),
            Call(users.address, f"{api}.UserService/GetMe", token="TOKEN"),
            Call(users.address, f"{api}.UserAdminService/GrantPackage", json.dumps(grant), token="ADMIN"),
            Call(streams.address, f"{sessions}/ListSessions", token="TOKEN"),
        ]
        self._say("call it meanwhile:")
        for line in shell({"TOKEN": user.token, "ADMIN": admin.token}, calls):
            self._say(line)

    def _say(self, text: str) -> None:
        say(self._console, text)


def _give(sample: Path, user: Account, media: Path) -> None:
    """The sample into the user's folder, readable to whoever runs the encoder."""
    folder = media / str(user.id)
    folder.mkdir(parents=True)
    sample.rename(folder / sample.name)
    for path, mode in ((media, 0o755), (folder, 0o755), (folder / sample.name, 0o644)):
        path.chmod(mode)


@asynccontextmanager
async def _begun(work: Coroutine[object, object, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Under way meanwhile, and surely over at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def _told(error: BaseException) -> str:
    if isinstance(error, aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or type(error).__name__
