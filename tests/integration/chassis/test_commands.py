"""`python -m services` as an operator types it."""

import subprocess
import sys
from pathlib import Path

import asyncpg

from tests.support.database import Cluster, complete


def services(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_empty_database_is_brought_up_to_date_and_says_so(cluster: Cluster) -> None:
    with cluster.fresh() as database:
        before = services("migrate", "--status", "--database-url", database.admin_dsn)
        assert before.returncode == 0
        assert {line.split()[0] for line in before.stdout.splitlines()} == {"pending"}
        assert services("migrate", "--database-url", database.admin_dsn).returncode == 0
        after = services("migrate", "--status", "--database-url", database.admin_dsn)
        assert {line.split()[0] for line in after.stdout.splitlines()} == {"applied"}


def test_a_roles_password_comes_from_a_file(cluster: Cluster, tmp_path: Path) -> None:
    # The other tests of this server know its roles by this password, if by any.
    password = cluster.password or "only for this test"
    (tmp_path / "password").write_text(password + "\n")
    with cluster.fresh() as database:
        given = f"streamax_users={tmp_path / 'password'}"
        assert (
            services(
                "migrate", "--role-password-file", given, "--database-url", database.admin_dsn
            ).returncode
            == 0
        )
        stored = complete(_verifier(database.admin_dsn))
        assert stored.startswith("SCRAM-SHA-256$")


async def _verifier(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        stored: str = await connection.fetchval(
            "SELECT rolpassword FROM pg_authid WHERE rolname = 'streamax_users'"
        )
        return stored
    finally:
        await connection.close()


def test_a_role_without_a_file_is_refused() -> None:
    refused = services(
        "migrate", "--role-password-file", "streamax_users", "--database-url", "postgresql://nowhere"
    )
    assert refused.returncode == 2
    assert "ROLE=FILE" in refused.stderr
