"""The SQL files: found, named, and every named query fit for the role that will send it."""

import pytest

import sql
from sql import File
from tests.support.database import Database


def test_migrations_are_one_sequence_over_all_owners() -> None:
    numbers = [file.number for file in sql.migrations()]
    assert numbers == sorted(set(numbers))
    assert {file.name.partition("/")[0] for file in sql.migrations()} <= set(sql.OWNERS)


def test_policies_are_applied_after_every_function() -> None:
    kinds = ["policies" if file.name.endswith("/policies.sql") else "function" for file in sql.repeatables()]
    assert kinds == sorted(kinds)
    assert kinds.count("policies") == len(sql.OWNERS)


def test_a_file_is_the_same_whatever_its_line_ends() -> None:
    one, other = File("x.sql", "SELECT 1;\nSELECT 2;\n"), File("x.sql", "SELECT 1;\r\nSELECT 2;")
    assert one.checksum == other.checksum
    assert one.checksum != File("x.sql", "SELECT 1;\nSELECT 3;\n").checksum


def test_an_owner_without_queries_has_none() -> None:
    assert dict(sql.queries("platform")) == {}


@pytest.mark.parametrize("owner", ["users", "streams"])
async def test_every_query_is_fit_for_its_services_role(database: Database, owner: str) -> None:
    queries = sql.queries(owner)
    assert queries
    async with database.connect(f"streamax_{owner}") as connection:
        for text in queries.values():
            await connection.prepare(text)
