"""The parts of the users service and how they fit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from services.chassis.auth import Verifier
from services.chassis.clock import SystemClock
from services.chassis.database import Database
from services.chassis.layers import Drain, standard
from services.chassis.loops import Loop
from services.chassis.process import Worker
from services.chassis.server import Server
from services.chassis.vault import Vault
from services.users.config import Config
from services.users.credentials import Passwords
from services.users.identity import Identity
from services.users.keys import KeyRing
from services.users.rpc import add_services
from services.users.tokens import AccessTokens

CONFIG = Config


@asynccontextmanager
async def serving(config: Config, *, reuse_port: bool = False) -> AsyncIterator[Server]:
    """The service, answering; drained and taken apart in reverse at the end.

    Raises UnprotectedTables, Unavailable, KeyFileRefused, SealBroken (the signing key was
    sealed by another vault).
    """
    vault = Vault.open(config.vault_key_file)
    async with AsyncExitStack() as stack:
        db = await stack.enter_async_context(Database(config.database, application_name="users"))
        await db.refuse_unprotected_tables()
        keys = KeyRing(db, vault)
        await keys.open()
        passwords = Passwords(config.passwords)
        stack.callback(passwords.close)
        identity = Identity(
            config.tokens,
            db=db,
            vault=vault,
            passwords=passwords,
            access_tokens=AccessTokens(config.tokens, keys=keys, clock=SystemClock()),
        )

        drain = Drain()
        verifier = Verifier(config.auth.key_source() or keys, config.auth)
        layers = standard(config.server.layers, verifier=verifier, drain=drain)
        server = Server(config.server, layers=layers, drain=drain, reuse_port=reuse_port)
        add_services(server, db=db, identity=identity, keys=keys)

        refreshing = Loop("signing keys", keys.refresh, interval=config.keys_refresh)
        task = asyncio.create_task(refreshing.run(), name=refreshing.name)
        stack.callback(task.cancel)
        yield await stack.enter_async_context(server)


async def serve(config: Config, worker: Worker) -> None:
    """The service in one process, until told to stop."""
    async with serving(config, reuse_port=worker.reuse_port) as server:
        worker.ready(server.address)
        await worker.stopping.wait()
