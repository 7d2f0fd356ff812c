"""Starting a service as a process of its own, and how its failures are told."""

import os
from pathlib import Path

import pytest

from cli.suite.services import ServiceFailed, serving
from services.chassis.vault import Vault
from tests.support.database import Database


async def test_failure_to_start_tells_the_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceFailed, match="unknown key 'nonsense'"):
        async with serving("users", {"nonsense": 1}, folder=tmp_path, environment=dict(os.environ)):
            pytest.fail("it is not up")


async def test_serves_until_left_and_keeps_its_log(tmp_path: Path, database: Database) -> None:
    key = tmp_path / "vault.key"
    key.write_text(Vault.new_key())
    key.chmod(0o600)
    config = {"vault_key_file": str(key), "database": {"url": database.dsn("streamax_users")}}
    async with serving("users", config, folder=tmp_path, environment=dict(os.environ)) as service:
        assert int(service.address.rpartition(":")[2]) > 0
        service.check()
    with pytest.raises(ServiceFailed, match="ended with status 0"):
        service.check()
    assert '"message":"ready"' in service.log.read_text()
