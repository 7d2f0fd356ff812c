"""The run folder and what is written into it."""

import stat
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.suite.files import run_folder, write_secret, write_toml

names = st.from_regex("[a-z][a-z0-9_]{0,10}", fullmatch=True)
# TOML has no surrogates and no raw DEL.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x7f"))
scalars = st.booleans() | st.integers(-(2**53), 2**53) | texts
values = scalars | st.lists(texts, max_size=3)
tables = st.recursive(
    st.dictionaries(names, values, max_size=4),
    lambda inner: st.dictionaries(names, values | inner, max_size=4),
    max_leaves=6,
)


@given(tables)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_toml_reads_back(tmp_path: Path, table: dict[str, object]) -> None:
    assert tomllib.loads(write_toml(tmp_path / "a.toml", table).read_text(encoding="utf-8")) == table


def test_secret_is_ours_alone_and_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_secret(path, "secret")
    assert path.read_text() == "secret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_secret(path, "another")


def test_run_folder_can_be_passed_but_not_read_by_others() -> None:
    with run_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711


def test_run_folder_goes_with_all_in_it_after_a_failure() -> None:
    with suppress(RuntimeError), run_folder() as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("x")
        raise RuntimeError
    assert not folder.exists()
