from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.database import DatabaseConfig
from services.chassis.server import ServerConfig
from services.chassis.vault import Vault
from services.users.config import Config, PasswordConfig
from tests.support.database import Database
from tests.support.users import Client, client_of


@pytest.fixture
def config(database: Database, tmp_path: Path) -> Config:
    key_file = tmp_path / "vault.key"
    key_file.touch(mode=0o600)
    key_file.write_text(Vault.new_key())
    return Config(
        server=ServerConfig(host="127.0.0.1", port=0),
        database=DatabaseConfig(url=database.dsn("streamax_users")),
        vault_key_file=key_file,
        # The cheapest argon2 there is: these tests are about who gets in, not about the cost of trying.
        passwords=PasswordConfig(time_cost=1, memory_kib=8, workers=2, queue=200),
    )


@pytest.fixture
async def client(config: Config, database: Database) -> AsyncIterator[Client]:
    async with client_of(config, database) as made:
        yield made
