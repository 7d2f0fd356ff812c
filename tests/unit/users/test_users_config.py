from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.chassis.config import ConfigRefused, Environment, load
from services.users.config import Config

NO_ENVIRONMENT = Environment(database_url=None, config=None, exports_traces=False)
LEAST = """
vault_key_file = "vault.key"
[database]
url = "postgresql://streamax_users@/streamax"
"""


def _load(tmp_path: Path, text: str, **overrides: Any) -> Config:
    path = tmp_path / "users.toml"
    path.write_text(text)
    return load(Config, path, overrides, env=NO_ENVIRONMENT)


def test_database_and_vault_are_all_that_must_be_said(tmp_path: Path) -> None:
    config = _load(tmp_path, LEAST)
    assert config.vault_key_file == tmp_path / "vault.key"
    assert config.tokens.access_lifetime == timedelta(hours=1)
    assert config.tokens.reuse_interval == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("tokens.access_lifetime", "30s", "access_lifetime"),
        ("tokens.access_lifetime", "2d", "access_lifetime"),
        ("tokens.refresh_lifetime", "1h", "refresh_lifetime"),
        ("tokens.reuse_interval", "2m", "reuse_interval"),
        ("passwords.time_cost", 0, "time_cost"),
        ("passwords.workers", 0, "workers"),
        ("passwords.queue", -1, "queue"),
        ("passwords.memory_kib", 7, "memory_kib"),
        ("workers", 0, "workers"),
        ("keys_refresh", "0s", "keys_refresh"),
        ("passwords.cost", 3, "passwords.cost"),
    ],
)
def test_value_that_makes_no_sense_is_refused_by_name(
    tmp_path: Path, key: str, value: object, named: str
) -> None:
    with pytest.raises(ConfigRefused, match=named):
        _load(tmp_path, LEAST, **{key: value})
