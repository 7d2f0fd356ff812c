"""The matrix: role x relation x verb x column, whose rows, functions, triggers; of a live database."""

import asyncpg
import pytest

from services.chassis.migrations import LOGINS
from tests.database.access import expected, findings, settle
from tests.support.database import Database


async def test_everybody_may_do_what_is_written_and_nothing_else(shaped: Database) -> None:
    async with shaped.connect() as connection:
        people = await settle(connection)
        assert [one async for one in findings(connection, expected(), people)] == []


async def test_no_function_takes_nobody_for_a_caller(standing: Database) -> None:
    async with standing.connect() as connection:
        functions = await connection.fetch(
            "SELECT oid::regproc::text AS name, pronargs AS arguments FROM pg_proc"
            " WHERE pronamespace = 'private'::regnamespace AND proargnames[1] = 'caller'"
            " AND EXISTS (SELECT FROM unnest($1::text[]) AS role"
            "              WHERE has_function_privilege(role, oid, 'EXECUTE'))",
            list(LOGINS),
        )
        assert len(functions) > 5
        for function in functions:
            nothing = ", ".join(["NULL"] * function["arguments"])
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await connection.fetch(f"SELECT * FROM {function['name']}({nothing})")
            assert refusal.value.sqlstate == "SX001", function["name"]
            assert refusal.value.args == ("TOKEN_MISSING",), function["name"]
