"""`python -m services`: what it says when something is wrong, before anything is served."""

from pathlib import Path

import pytest

from services.__main__ import main
from services.chassis.vault import Vault
from tests.support import database as support


@pytest.fixture
def config(database: support.Database, tmp_path: Path) -> Path:
    """A streams service's configuration."""
    key = tmp_path / "vault.key"
    key.write_text(Vault.new_key())
    key.chmod(0o600)
    file = tmp_path / "streams.toml"
    file.write_text(
        f'simulate = true\nvault_key_file = "vault.key"\nmedia.root = "."\n'
        f'database.url = "{database.dsn("streamax_streams")}"\n'
        'auth.jwks_file = "jwks.json"\nserver.port = 0\n'
    )
    return file


def test_a_good_configuration_and_database_pass_the_check(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "streams", "--config", str(config)]) == 0
    assert "row-level security" in capsys.readouterr().out


def test_an_unknown_key_is_refused_by_name(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + 'colour = "red"\n')
    assert main(["check", "streams", "--config", str(config)]) == 2
    assert "'colour'" in capsys.readouterr().err


def test_a_configuration_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["streams", "--config", "/nowhere/at/all.toml"]) == 2
    assert "/nowhere/at/all.toml" in capsys.readouterr().err


def test_an_unprotected_table_fails_the_check(
    database: support.Database, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database.run("CREATE TABLE public.forgotten (n int)")
    assert main(["check", "streams", "--config", str(config)]) == 1
    assert "public.forgotten" in capsys.readouterr().err


def test_a_database_that_is_away_fails_the_check(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = config.read_text().replace("database.url", 'database.start_timeout = "10ms"\n#')
    config.write_text(away + 'database.url = "postgresql://nobody@127.0.0.1:9/none"\n')
    assert main(["check", "streams", "--config", str(config)]) == 1
    assert "available" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["monitor"], ["check"], ["check", "nothing"]])
def test_a_command_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_migrating_needs_to_know_what(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("STREAMAX_DATABASE_URL", raising=False)
    assert main(["migrate"]) == 2
    assert "STREAMAX_DATABASE_URL" in capsys.readouterr().err
