import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from uuid import UUID

import pytest

from services.chassis.auth import AuthConfig, Role, Verifier
from services.chassis.channel import ChannelConfig, open_channel
from services.chassis.database import Database
from services.chassis.errors import Unavailable
from services.chassis.keys import KeysUnavailable
from services.chassis.vault import SealBroken, Vault
from services.clients.jwks import JwksClient
from services.users import store
from services.users.config import Config
from services.users.keys import KeyRing, generate_key
from services.users.main import serving
from streamax.users.v1.auth_service_pb2 import GetJwksRequest
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support import database as support
from tests.support.tokens import bearer
from tests.support.users import Client, client_of


@pytest.fixture
async def db(config: Config) -> AsyncIterator[Database]:
    async with Database(config.database, application_name="tests") as opened:
        yield opened


async def test_published_keys_verify_the_tokens(client: Client) -> None:
    made = await client.sign_up()
    async with open_channel(ChannelConfig(target=f"127.0.0.1:{client.port}")) as channel:
        principal = await Verifier(JwksClient(channel), AuthConfig()).verify(made.tokens.access_token)
    assert principal.subject == UUID(made.user.id)
    assert principal.role is Role.AUTHENTICATED


async def test_keys_are_unavailable_while_the_users_service_is_down(client: Client) -> None:
    async with open_channel(ChannelConfig(target="127.0.0.1:1")) as channel:
        with pytest.raises(KeysUnavailable):
            await JwksClient(channel).fetch()


async def test_published_key_is_public(client: Client) -> None:
    response = await client.auth.GetJwks(GetJwksRequest())
    (key,) = response.keys
    assert (key.kty, key.alg, key.use, key.crv) == ("EC", "ES256", "sig", "P-256")
    assert key.kid
    assert not {field.name for field in key.DESCRIPTOR.fields} & {"d", "k"}


async def test_workers_that_start_together_make_one_key(config: Config, db: Database) -> None:
    vault = Vault.open(config.vault_key_file)
    rings = [KeyRing(db, vault) for _ in range(8)]
    await asyncio.gather(*(ring.open() for ring in rings))
    assert len({ring.current.kid for ring in rings}) == 1
    assert len(await store.list_signing_keys(db)) == 1


async def test_next_start_signs_by_the_same_key(config: Config, database: support.Database) -> None:
    async with client_of(config, database) as first:
        made = await first.sign_up()
    async with client_of(config, database) as second:
        me = await second.users.GetMe(GetMeRequest(), metadata=bearer(made.tokens.access_token))
    assert me == made.user


async def test_private_key_is_not_in_the_database(client: Client, config: Config, db: Database) -> None:
    (stored,) = await store.list_signing_keys(db)
    ring = KeyRing(db, Vault.open(config.vault_key_file))
    await ring.open()
    secret = ring.current.private.private_numbers().private_value.to_bytes(32, "big")
    row = await client.value("SELECT k::text FROM private.signing_keys k")
    assert secret not in stored.sealed_private
    assert secret.hex() not in row


async def test_another_vault_cannot_sign_and_the_service_does_not_start(
    client: Client, config: Config
) -> None:
    config.vault_key_file.write_text(Vault.new_key())
    with pytest.raises(SealBroken):
        async with serving(config):
            pass


async def test_sealed_key_of_another_row_does_not_open(config: Config, db: Database, client: Client) -> None:
    vault = Vault.open(config.vault_key_file)
    other = generate_key(vault)
    await client.execute("UPDATE private.signing_keys SET sealed_private = $1", other.sealed_private)
    with pytest.raises(SealBroken):
        await KeyRing(db, vault).open()


async def test_rotated_key_signs_without_a_restart_and_the_previous_still_verifies(
    client: Client, config: Config, db: Database
) -> None:
    vault = Vault.open(config.vault_key_file)
    ring = KeyRing(db, vault)
    await ring.open()
    old = ring.current.kid
    standby, revoked = generate_key(vault), generate_key(vault)
    async with client.database.connect() as admin, admin.transaction():
        await admin.execute("UPDATE private.signing_keys SET status = 'previous'")
        for key, status in ((standby, "current"), (revoked, "revoked")):
            await admin.execute(
                "INSERT INTO private.signing_keys (kid, algorithm, public_jwk, sealed_private, status)"
                " VALUES ($1, 'ES256', $2, $3, $4)",
                key.public.kid,
                json.dumps(asdict(key.public)),
                key.sealed_private,
                status,
            )
    assert await ring.refresh() == {"changed": 3}
    assert ring.current.kid == standby.public.kid
    assert {key.kid for key in ring.published} == {old, standby.public.kid}
    assert await ring.refresh() == {"changed": 0}


async def test_ring_without_a_current_key_signs_nothing(client: Client, config: Config, db: Database) -> None:
    ring = KeyRing(db, Vault.open(config.vault_key_file))
    await ring.open()
    await client.execute("UPDATE private.signing_keys SET status = 'revoked'")
    await ring.refresh()
    assert list(ring.published) == []
    with pytest.raises(Unavailable):
        _ = ring.current
