"""The parts of the streams service and how they fit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from encoder.job import Limits
from services.chassis.auth import KeySource, Verifier
from services.chassis.channel import ChannelConfig, open_channel
from services.chassis.clock import SystemClock
from services.chassis.database import Database
from services.chassis.identifiers import new_id
from services.chassis.layers import Drain, standard
from services.chassis.leader import lead
from services.chassis.loops import Loop
from services.chassis.pages import PageTokens
from services.chassis.process import Worker
from services.chassis.server import Server
from services.chassis.vault import Vault
from services.clients.jwks import JwksClient
from services.streams.admission import Admission
from services.streams.config import Config
from services.streams.destination import Allowlist
from services.streams.media.library import Library
from services.streams.media.probe import Prober
from services.streams.reconcile.leader import Leader
from services.streams.reconcile.loop import Settings
from services.streams.reconcile.plan import Patience
from services.streams.rpc import add_services
from services.streams.runtime import Runtime
from services.streams.wake import Waker
from services.streams.watch import Watch

CONFIG = Config


@asynccontextmanager
async def serving(config: Config, *, reuse_port: bool = False) -> AsyncIterator[Server]:
    """The service, answering; drained and taken apart in reverse at the end.

    Raises UnprotectedTables, Unavailable, KeyFileRefused. Encoders go on without it.
    """
    clock = SystemClock()
    vault = Vault.open(config.vault_key_file)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(config.database, application_name="streams"))
        await database.refuse_unprotected_tables()
        keys = await _keys(config, stack)
        prober = await stack.enter_async_context(Prober(limits=config.media.probe, clock=clock))
        waker = Waker(database)
        watch = Watch(database, clock, bookmark_every=config.watch.bookmark_every)
        stack.enter_context(waker.listening(watch.wake))
        leader = Leader(
            database=database,
            open_runtime=lambda: open_runtime(config),
            vault=vault,
            waker=waker,
            clock=clock,
            settings=Settings(
                media_root=config.media.root,
                limits=Limits(),
                patience=Patience(),
                concurrency=config.reconcile.concurrency,
            ),
            every=config.reconcile,
            watch=config.watch,
        )
        drain = Drain()
        server = Server(
            config.server,
            layers=standard(config.server.layers, verifier=Verifier(keys, config.auth), drain=drain),
            drain=drain,
            reuse_port=reuse_port,
        )
        admission = Admission(
            database=database,
            vault=vault,
            destinations=Allowlist.parse(config.destinations),
            library=Library(root=config.media.root, size_max=config.media.most_bytes),
            prober=prober,
            new_id=new_id,
        )
        add_services(
            server,
            database=database,
            admission=admission,
            pages=PageTokens(vault),
            waker=waker,
            watch=watch,
        )
        async with asyncio.TaskGroup() as tasks:
            polling = Loop("watch poll", watch.poll, interval=config.watch.poll_every, clock=clock)
            background = [
                tasks.create_task(waker.run(), name="waker"),
                tasks.create_task(polling.run(), name="watch poll"),
                tasks.create_task(lead(database, "streams", leader.work), name="leader"),
            ]
            async with server:
                yield server
            for task in background:
                task.cancel()


async def serve(config: Config, worker: Worker) -> None:
    """The service in one process, until told to stop."""
    async with serving(config, reuse_port=worker.reuse_port) as server:
        worker.ready(server.address)
        await worker.stopping.wait()


async def _keys(config: Config, stack: AsyncExitStack) -> KeySource:
    source = config.auth.key_source()
    if source is not None:
        return source
    channel = open_channel(ChannelConfig(target=config.users_address))
    return JwksClient(await stack.enter_async_context(channel))


def open_runtime(config: Config) -> Runtime:
    """The engine that the configuration names; imported only here, for its client library is heavy."""
    if config.docker is not None:
        from services.streams.runtime.docker import DockerRuntime

        return DockerRuntime(config.docker)
    if config.process is not None:
        from services.streams.runtime.process import ProcessRuntime

        return ProcessRuntime(config.process)
    from services.streams.runtime.memory import Engine, MemoryRuntime

    return MemoryRuntime(Engine(SystemClock()))
