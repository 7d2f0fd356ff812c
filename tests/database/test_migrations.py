"""Migrations: once, in order, whole or not at all, from as many processes as like."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from services.chassis.migrations import (
    LOGINS,
    MigrationFailed,
    MigrationRefused,
    Scripts,
    State,
    migrate,
    set_role_password,
    status,
)
from sql import File
from tests.database.conftest import Shape
from tests.support.database import Cluster, Database, embedded_cluster

_MIGRATE = """
import asyncio, json, sys
from services.chassis.migrations import migrate
print(json.dumps(asyncio.run(migrate(sys.argv[1]))))
"""


async def test_migrating_again_applies_nothing(shape: Shape, shaped: Database) -> None:
    assert await migrate(shape.migrant_dsn(shaped)) == []
    assert {step.state for step in await status(shape.migrant_dsn(shaped))} == {State.APPLIED}


async def test_several_processes_apply_every_script_once(shape: Shape) -> None:
    with shape.bare() as database:
        runs = await asyncio.gather(*(_migrate_elsewhere(shape.migrant_dsn(database)) for _ in range(4)))
    applied = [name for run in runs for name in run]
    ours = Scripts.ours()
    assert sorted(applied) == sorted(file.name for file in (*ours.migrations, *ours.repeatables))


async def _migrate_elsewhere(dsn: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _MIGRATE, dsn, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    names: list[str] = json.loads(output)
    return names


async def test_databases_of_one_new_cluster_can_be_migrated_at_once() -> None:
    # Roles belong to the cluster: here they are made by all three at once.
    with embedded_cluster() as server:
        dsns = [server.dsn(database=f"d{number}") for number in range(3)]
        connection = await asyncpg.connect(server.dsn())
        for number in range(3):
            await connection.execute(f"CREATE DATABASE d{number}")
        await connection.close()
        runs = await asyncio.gather(*(migrate(dsn) for dsn in dsns))
    assert runs[0] == runs[1] == runs[2] != []


async def test_a_landlord_who_is_no_superuser_can_migrate_a_plain_database() -> None:
    with embedded_cluster() as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE ROLE landlord LOGIN CREATEROLE")
        await connection.execute("CREATE DATABASE house OWNER landlord")
        await connection.close()
        assert await migrate(server.dsn("landlord", "house")) != []
        connection = await asyncpg.connect(server.dsn("streamax_users", "house"))
        assert await connection.fetchval("SELECT private.take_leadership('a', 'b')") == 1
        await connection.close()


async def test_a_role_that_may_too_much_is_not_taken_for_a_service(cluster: Cluster) -> None:
    with embedded_cluster() as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE ROLE streamax_backup LOGIN NOINHERIT BYPASSRLS")
        await connection.close()
        with pytest.raises(MigrationFailed, match="streamax_backup exists and may do more"):
            await migrate(server.dsn())


def _with(*, migrations: tuple[File, ...] = (), repeatables: tuple[File, ...] = ()) -> Scripts:
    """Ours, and more."""
    ours = Scripts.ours()
    return Scripts((*ours.migrations, *migrations), (*ours.repeatables, *repeatables))


async def test_a_changed_migration_is_refused_by_name(shape: Shape, shaped: Database) -> None:
    ours = Scripts.ours()
    changed = replace(ours.migrations[2], text=ours.migrations[2].text + "\n-- an afterthought")
    scripts = Scripts((*ours.migrations[:2], changed, *ours.migrations[3:]), ours.repeatables)
    dsn = shape.migrant_dsn(shaped)
    with pytest.raises(MigrationRefused, match=changed.name):
        await migrate(dsn, scripts=scripts)
    states = {step.name: step.state for step in await status(dsn, scripts=scripts)}
    assert states[changed.name] is State.CHANGED
    assert set(states.values()) == {State.APPLIED, State.CHANGED}


async def test_other_line_ends_are_no_change(shape: Shape, shaped: Database) -> None:
    ours = Scripts.ours()
    windows = tuple(replace(file, text=file.text.replace("\n", "\r\n")) for file in ours.migrations)
    assert await migrate(shape.migrant_dsn(shaped), scripts=Scripts(windows, ours.repeatables)) == []


async def test_a_failing_migration_leaves_nothing(shape: Shape, shaped: Database) -> None:
    dsn = shape.migrant_dsn(shaped)
    good = File("users/migrations/9001_good.sql", "CREATE TABLE private.good ()")
    bad = File("users/migrations/9002_bad.sql", "CREATE TABLE private.half ();\n\nCREATE TABLE oops (")
    with pytest.raises(MigrationFailed, match=r"9002_bad\.sql, line 3: syntax error"):
        await migrate(dsn, scripts=_with(migrations=(good, bad)))
    async with shaped.connect() as connection:
        tables = {row[0] for row in await connection.fetch("SELECT relname FROM pg_class")}
    # The one before it was a transaction of its own, and stands.
    assert "good" in tables
    assert "half" not in tables
    mended = replace(bad, text="CREATE TABLE private.whole ()")
    assert await migrate(dsn, scripts=_with(migrations=(good, mended))) == [mended.name]


async def test_a_migration_that_comes_too_late_is_refused(shape: Shape, shaped: Database) -> None:
    dsn = shape.migrant_dsn(shaped)
    first, second = (File(f"users/migrations/900{n}_x.sql", "SELECT") for n in (1, 2))
    await migrate(dsn, scripts=_with(migrations=(second,)))
    with pytest.raises(MigrationRefused, match="9001_x"):
        await migrate(dsn, scripts=_with(migrations=(first, second)))


async def test_an_older_program_does_not_take_a_newer_database_back(shape: Shape, shaped: Database) -> None:
    dsn = shape.migrant_dsn(shaped)
    newer = File("users/migrations/9001_newer.sql", "SELECT")
    await migrate(dsn, scripts=_with(migrations=(newer,)))
    with pytest.raises(MigrationRefused, match="9001_newer"):
        await migrate(dsn)
    assert (await status(dsn))[0].state is State.UNKNOWN


async def test_a_function_that_changes_is_applied_again_and_belongs_to_the_owner(
    shape: Shape, shaped: Database
) -> None:
    dsn = shape.migrant_dsn(shaped)
    name = "users/functions/answer.sql"
    make = "CREATE OR REPLACE FUNCTION private.answer() RETURNS integer LANGUAGE sql RETURN {}"
    for answer in (41, 42):
        scripts = _with(repeatables=(File(name, make.format(answer)),))
        assert await migrate(dsn, scripts=scripts) == [name]
        assert await migrate(dsn, scripts=scripts) == []
    async with shaped.connect() as connection:
        assert await connection.fetchval("SELECT private.answer()") == 42
        owners = await connection.fetch(
            "SELECT DISTINCT proowner::regrole::text FROM pg_proc"
            " WHERE pronamespace = 'private'::regnamespace"
        )
    assert [row[0] for row in owners] == [shape.migrant or "streamax_owner"]


async def test_a_role_logs_in_with_the_password_of_its_file(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("correct horse battery staple\n")
    with embedded_cluster() as server:
        await migrate(server.dsn())
        await set_role_password(server.dsn(), "streamax_users", password)
        rules = server.home / "data" / "pg_hba.conf"
        rules.write_text("local all streamax_users scram-sha-256\n" + rules.read_text())
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        connection = await asyncpg.connect(
            server.dsn("streamax_users"), password="correct horse battery staple"
        )
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn("streamax_users"), password="battery")


async def test_only_the_services_get_passwords_and_only_usable_ones(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("")
    with pytest.raises(ValueError, match="postgres is none of streamax_users"):
        await set_role_password("postgresql://nowhere.invalid/", "postgres", password)
    for unusable in ("", "\n", "\x07bell", "пароль"):
        password.write_text(unusable)
        with pytest.raises(ValueError, match="printable ASCII"):
            await set_role_password("postgresql://nowhere.invalid/", LOGINS[0], password)
