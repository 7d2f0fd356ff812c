"""The database as services see it: one statement, one outcome, nothing left behind."""

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import grpc
import pytest

from cli.suite.postgres import EmbeddedPostgres
from services.chassis.database import Database, DatabaseConfig, UnprotectedTables
from services.chassis.errors import (
    Contention,
    DeadlineExceeded,
    Internal,
    InvalidField,
    ResourceNotFound,
    Unavailable,
    from_rpc_error,
)
from services.chassis.layers.call import Context
from tests.support import database as support
from tests.support.polling import until
from tests.support.probe import Answer, Ask, Probe, serving


def busy(database: support.Database) -> bool:
    """Whether the service is running a statement."""

    async def count() -> int:
        async with database.connect() as admin:
            running: int = await admin.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = 'streamax_streams' AND state = 'active'"
            )
            return running

    return support.complete(count()) > 0


async def until_idle(database: support.Database) -> None:
    await until(lambda: not busy(database), within=5)


async def until_busy(database: support.Database) -> None:
    await until(lambda: busy(database), within=5)


async def kick(database: support.Database) -> int:
    """Ends every connection of the service, as a restart or a failing network would."""
    async with database.connect() as admin:
        rows = await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'streamax_streams'"
        )
        return len(rows)


def failing(database: support.Database, name: str, body: str) -> str:
    """A function of the test's own; the statement that calls it."""
    database.run(
        f"CREATE FUNCTION private.{name}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f"GRANT EXECUTE ON FUNCTION private.{name}() TO streamax_streams"
    )
    return f"SELECT private.{name}()"


# One statement.


async def test_a_statement_in_each_of_the_four_ways(db: Database) -> None:
    assert [row["n"] for row in await db.fetch("SELECT n FROM generate_series(1, $1::int) AS n", 3)] == [
        1,
        2,
        3,
    ]
    row = await db.fetchrow("SELECT 1 AS a, 2 AS b")
    assert row is not None
    assert (row["a"], row["b"]) == (1, 2)
    assert await db.fetchrow("SELECT 1 WHERE false") is None
    assert await db.fetchval("SELECT $1::text", "x") == "x"
    assert await db.execute("SELECT 1") == "SELECT 1"


async def test_json_comes_and_goes_as_python(db: Database) -> None:
    value = {"a": [1, None, "ü"], "b": {"c": True}}
    assert await db.fetchval("SELECT $1::jsonb", value) == value
    assert await db.fetchval("SELECT $1::json", value) == value


async def test_a_refusal_raised_in_sql_is_its_kind_with_its_details(
    database: support.Database, db: Database
) -> None:
    missing = failing(
        database,
        "refuse_missing",
        "RAISE EXCEPTION USING ERRCODE = 'SX001', MESSAGE = 'RESOURCE_NOT_FOUND',"
        """ DETAIL = '{"type": "Session", "name": "s1"}';""",
    )
    with pytest.raises(ResourceNotFound) as caught:
        await db.fetchval(missing)
    assert caught.value.resource is not None
    assert caught.value.resource.name == "s1"


@pytest.mark.parametrize("detail", ["''", "'not json'", "'[1]'", "NULL"])
async def test_a_refusal_with_odd_details_is_still_its_kind(
    database: support.Database, db: Database, detail: str
) -> None:
    using = "" if detail == "NULL" else f", DETAIL = {detail}"
    odd = failing(
        database,
        "refuse_oddly",
        f"RAISE EXCEPTION USING ERRCODE = 'SX001', MESSAGE = 'INVALID_FIELD'{using};",
    )
    with pytest.raises(InvalidField):
        await db.fetchval(odd)


async def test_a_reason_nobody_knows_is_our_fault(database: support.Database, db: Database) -> None:
    unknown = failing(
        database, "refuse_unknown", "RAISE EXCEPTION USING ERRCODE = 'SX001', MESSAGE = 'NOT_A_REASON';"
    )
    with pytest.raises(Internal) as caught:
        await db.fetchval(unknown)
    assert "NOT_A_REASON" in caught.value.private


async def test_an_error_nobody_foresaw_stays_what_it_is(db: Database) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await db.fetchval("SELECT * FROM private.no_such_table")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await db.fetchval("SELECT 1 / 0")
    with pytest.raises(asyncpg.DataError):
        await db.fetchval("SELECT $1::int", "not an int")
    with pytest.raises(asyncpg.InterfaceError, match="expects 1 argument"):
        await db.fetchval("SELECT $1::int", 1, 2)
    assert await db.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_what_postgresql_rolled_back_is_sent_again(
    database: support.Database, db: Database, state: str
) -> None:
    # A sequence is not rolled back: it counts the attempts.
    database.run("CREATE SEQUENCE private.tries; GRANT USAGE ON SEQUENCE private.tries TO streamax_streams")
    flaky = failing(
        database,
        "flaky",
        f"IF nextval('private.tries') < 4 THEN RAISE EXCEPTION USING ERRCODE = '{state}'; END IF; RETURN 7;",
    )
    assert await db.fetchval(flaky) == 7
    assert await db.fetchval("SELECT nextval('private.tries')") == 5


async def test_a_lasting_conflict_becomes_contention(database: support.Database, db: Database) -> None:
    hopeless = failing(database, "hopeless", "RAISE EXCEPTION USING ERRCODE = '40001';")
    with pytest.raises(Contention) as caught:
        await db.fetchval(hopeless)
    assert caught.value.retry_after == timedelta(milliseconds=100)


# Time.


async def test_the_server_ends_what_runs_longer_than_the_configured_time(database: support.Database) -> None:
    config = DatabaseConfig(
        url=database.dsn("streamax_streams"), pool_min=1, statement_timeout=timedelta(milliseconds=100)
    )
    async with Database(config, application_name="test") as db:
        with pytest.raises(DeadlineExceeded):
            await db.fetchval("SELECT pg_sleep(30)")
        assert await db.fetchval("SELECT 1") == 1


async def test_cancelling_the_caller_cancels_the_statement(database: support.Database, db: Database) -> None:
    running = asyncio.create_task(db.fetchval("SELECT pg_sleep(30)"))
    await until_busy(database)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await until_idle(database)
    assert await db.fetchval("SELECT 1") == 1


async def test_a_caller_who_leaves_the_rpc_cancels_the_statement(
    database: support.Database, db: Database
) -> None:
    async def slow(_: Any, context: Context) -> Any:
        return Answer(text=await db.fetchval("SELECT pg_sleep(30)::text"))

    async with serving(Probe(one_one=slow)) as served:
        calling = asyncio.ensure_future(served.stub.OneOne(Ask(), timeout=20))
        await until_busy(database)
        calling.cancel()
        await until_idle(database)


async def test_an_rpc_that_runs_out_of_time_in_the_database_says_so(
    database: support.Database, db: Database
) -> None:
    async def slow(_: Any, context: Context) -> Any:
        return Answer(text=await db.fetchval("SELECT pg_sleep(30)::text"))

    async with serving(Probe(one_one=slow)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.OneOne(Ask(), timeout=0.4)
    assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)
    await until_idle(database)


async def test_statements_queue_for_a_connection_in_turn(db: Database) -> None:
    order: list[int] = []

    async def use(number: int) -> None:
        await db.fetchval("SELECT pg_sleep(0.005)")
        order.append(number)

    await asyncio.gather(*(use(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_statement_that_gets_no_connection_in_time_was_never_sent(database: support.Database) -> None:
    config = DatabaseConfig(
        url=database.dsn("streamax_streams"),
        pool_min=1,
        pool_max=1,
        connect_timeout=timedelta(milliseconds=200),
    )
    async with Database(config, application_name="test") as db:
        holding = asyncio.create_task(db.fetchval("SELECT pg_sleep(30)"))
        await until_busy(database)
        with pytest.raises(Unavailable) as caught:
            await db.fetchval("SELECT 1")
        assert caught.value.metadata == {"dependency": "database"}
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await db.fetchval("SELECT 1") == 1


async def test_someone_who_gives_up_waiting_does_not_keep_a_connection(
    database: support.Database, db: Database
) -> None:
    for _ in range(30):
        holding = asyncio.create_task(db.fetchval("SELECT pg_sleep(0.01)"))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(db.fetchval("SELECT 1")) for _ in range(5)]
        await asyncio.sleep(0.009)
        for each in waiting[::2]:
            each.cancel()
        await asyncio.gather(holding, *waiting, return_exceptions=True)
    async with asyncio.timeout(5):
        assert await db.fetchval("SELECT 1") == 1


# What one borrower leaves to the next.


async def test_a_callers_name_does_not_reach_the_next_statement(db: Database) -> None:
    caller = str(uuid4())
    seen = await db.fetchval("SELECT set_config('streamax.caller', $1, true)", caller)
    assert seen == caller
    assert not await db.fetchval("SELECT current_setting('streamax.caller', true)")


async def test_concurrent_callers_never_see_each_others_name(database: support.Database) -> None:
    database.run(
        """
        CREATE FUNCTION private.whoami(caller text) RETURNS text LANGUAGE plpgsql AS $$
        DECLARE before text := current_setting('streamax.caller', true);
        BEGIN
          PERFORM set_config('streamax.caller', caller, true);
          RETURN coalesce(before, '') || current_setting('streamax.caller');
        END $$;
        GRANT EXECUTE ON FUNCTION private.whoami(text) TO streamax_streams;
        """
    )
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_min=1, pool_max=3)
    async with Database(config, application_name="test") as db:
        callers = [str(uuid4()) for _ in range(300)]
        seen = await asyncio.gather(*(db.fetchval("SELECT private.whoami($1)", each) for each in callers))
    assert seen == callers


async def test_the_service_cannot_become_anybody_else(db: Database) -> None:
    for role in ("streamax_owner", "streamax_users", "service_role", "postgres"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute(f"SET ROLE {role}")
    assert await db.fetchval("SELECT current_user::text") == "streamax_streams"


async def test_a_transaction_left_open_does_not_reach_the_next_borrower(db: Database) -> None:
    await db.execute("BEGIN")
    started, now = (
        await asyncio.gather(db.fetchval("SELECT now()"), asyncio.sleep(0.05, None)),
        await db.fetchval("SELECT now()"),
    )
    assert now > started[0]


async def test_a_failed_transaction_does_not_reach_the_next_borrower(db: Database) -> None:
    await db.execute("BEGIN")
    assert await db.fetchval("SELECT 1") == 1


# Several statements.


@pytest.fixture
def table(database: support.Database) -> str:
    database.run(
        "CREATE TABLE private.test_rows (n int PRIMARY KEY);"
        "ALTER TABLE private.test_rows ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY everything ON private.test_rows TO streamax_streams USING (true);"
        "GRANT SELECT, INSERT ON private.test_rows TO streamax_streams"
    )
    return "private.test_rows"


async def count(db: Database, table: str) -> int:
    number: int = await db.fetchval(f"SELECT count(*) FROM {table}")
    return number


async def test_a_transaction_commits_at_its_end(db: Database, table: str) -> None:
    async with db.transaction() as connection:
        await connection.execute(f"INSERT INTO {table} VALUES (1), (2)")
    assert await count(db, table) == 2


async def test_a_transaction_is_rolled_back_by_any_error(db: Database, table: str) -> None:
    async def work() -> None:
        async with db.transaction() as connection:
            await connection.execute(f"INSERT INTO {table} VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        await work()
    assert await count(db, table) == 0


async def test_a_cancelled_transaction_is_rolled_back(
    database: support.Database, db: Database, table: str
) -> None:
    async def work() -> None:
        async with db.transaction() as connection:
            await connection.execute(f"INSERT INTO {table} VALUES (1)")
            await connection.execute("SELECT pg_sleep(30)")

    working = asyncio.create_task(work())
    await until_busy(database)
    await asyncio.sleep(0.05)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    async with asyncio.timeout(5):
        assert await count(db, table) == 0


async def test_a_conflict_inside_a_transaction_is_contention(
    database: support.Database, db: Database
) -> None:
    conflict = failing(database, "conflict", "RAISE EXCEPTION USING ERRCODE = '40001';")
    with pytest.raises(Contention):
        async with db.transaction() as connection:
            await connection.fetchval(conflict)


# Losing the database and getting it back.


async def test_an_idle_connection_that_was_lost_is_replaced_unnoticed(
    database: support.Database, db: Database
) -> None:
    await db.fetchval("SELECT 1")
    assert await kick(database)
    async with asyncio.timeout(5):
        while True:
            try:
                assert await db.fetchval("SELECT 1") == 1
                break
            except Unavailable:
                continue


async def test_a_statement_that_loses_its_connection_is_unavailable_and_the_next_is_not(
    database: support.Database, db: Database
) -> None:
    running = asyncio.create_task(db.fetchval("SELECT pg_sleep(30)"))
    await until_busy(database)
    await kick(database)
    with pytest.raises(Unavailable) as caught:
        await running
    assert caught.value.metadata == {"dependency": "database"}
    assert await db.fetchval("SELECT 1") == 1


async def test_a_database_that_restarts_is_unavailable_until_it_is_back(tmp_path: Path) -> None:
    server = await asyncio.to_thread(EmbeddedPostgres.start, tmp_path / "server", durable=False)
    try:
        config = DatabaseConfig(url=server.dsn(), pool_min=2, connect_timeout=timedelta(seconds=2))
        async with Database(config, application_name="test") as db:
            assert await db.fetchval("SELECT 1") == 1
            await asyncio.to_thread(server.stop)
            with pytest.raises(Unavailable):
                await db.check()
            server = await asyncio.to_thread(EmbeddedPostgres.start, tmp_path / "server", durable=False)
            assert await asyncio.gather(*(db.fetchval("SELECT 1") for _ in range(20))) == [1] * 20
    finally:
        await asyncio.to_thread(server.remove)


async def test_a_database_that_is_not_there_is_waited_for_and_then_refused(
    database: support.Database,
) -> None:
    config = DatabaseConfig(
        url=database.dsn("streamax_streams").replace(database.name, "no_such_database"),
        start_timeout=timedelta(seconds=0.5),
    )
    with pytest.raises(Unavailable) as caught:
        await Database(config, application_name="test").__aenter__()
    assert "no_such_database" in caught.value.private


async def test_a_database_with_too_few_connections_is_waited_for(database: support.Database) -> None:
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_min=2, pool_max=2)
    database.run("ALTER ROLE streamax_streams CONNECTION LIMIT 1")
    try:
        opening = asyncio.create_task(Database(config, application_name="test").__aenter__())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(opening)
    finally:
        database.run("ALTER ROLE streamax_streams CONNECTION LIMIT -1")
    async with asyncio.timeout(10):
        db = await opening
    # Both of its connections are there to be lent.
    assert await asyncio.gather(*(db.fetchval("SELECT 1") for _ in range(10))) == [1] * 10
    await db.__aexit__(None, None, None)


async def test_closing_waits_for_nobody_for_long(database: support.Database) -> None:
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_min=1)
    async with Database(config, application_name="test") as db:
        running = asyncio.create_task(db.fetchval("SELECT pg_sleep(30)"))
        await until_busy(database)
        before = time.monotonic()
    assert time.monotonic() - before < 5
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await until_idle(database)


async def test_connections_are_replaced_when_they_are_old(database: support.Database) -> None:
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_min=1, pool_max=1)
    async with Database(config, application_name="test") as db:
        first = await db.fetchval("SELECT pg_backend_pid()")
        assert await db.fetchval("SELECT pg_backend_pid()") == first
    async with Database(replace(config, connection_life=timedelta(0)), application_name="test") as db:
        first = await db.fetchval("SELECT pg_backend_pid()")
        assert await db.fetchval("SELECT pg_backend_pid()") != first


async def test_an_operator_sees_who_is_connected(database: support.Database, db: Database) -> None:
    async with database.connect() as admin:
        names = await admin.fetch(
            "SELECT application_name FROM pg_stat_activity WHERE usename = 'streamax_streams'"
        )
    assert "chassis test" in {row["application_name"] for row in names}


async def test_a_password_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    with support.embedded_cluster() as server:
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE ROLE service LOGIN PASSWORD 'the right one'")
        rules = Path(await connection.fetchval("SHOW hba_file"))
        rules.write_text("local all service scram-sha-256\nlocal all all trust\n")
        await connection.execute("SELECT pg_reload_conf()")
        await connection.close()
        config = DatabaseConfig(
            url=server.dsn(user="service"), password_file=file, pool_min=1, start_timeout=timedelta(0)
        )
        file.write_text("the wrong one\n")
        with pytest.raises(Unavailable, match="available"):
            await Database(config, application_name="test").__aenter__()
        file.write_text("the right one\n")
        async with Database(config, application_name="test") as db:
            assert await db.fetchval("SELECT current_user::text") == "service"


# Start-up check.


async def test_a_migrated_database_is_protected(db: Database) -> None:
    await db.refuse_unprotected_tables()


@pytest.mark.parametrize("schema", ["public", "private"])
async def test_a_table_without_row_level_security_is_refused_by_name(
    database: support.Database, db: Database, schema: str
) -> None:
    database.run(f"CREATE TABLE {schema}.forgotten (n int)")
    with pytest.raises(UnprotectedTables, match=rf"{schema}\.forgotten"):
        await db.refuse_unprotected_tables()


# Wake-ups.


class Heard:
    """Collects what a listener is called back with."""

    def __init__(self) -> None:
        self.payloads: asyncio.Queue[str] = asyncio.Queue()

    async def next(self) -> str:
        async with asyncio.timeout(10):
            return await self.payloads.get()


async def test_a_listener_hears_of_its_connection_and_of_every_payload(db: Database) -> None:
    heard = Heard()
    await db.listen("changes", heard.payloads.put_nowait)
    assert await heard.next() == ""
    await db.notify("changes", "one")
    await db.notify("changes", "two")
    assert [await heard.next(), await heard.next()] == ["one", "two"]


async def test_a_listener_that_lost_its_connection_is_told_and_hears_again(
    database: support.Database, db: Database
) -> None:
    heard = Heard()
    await db.listen("changes", heard.payloads.put_nowait)
    assert await heard.next() == ""
    await kick(database)
    assert await heard.next() == ""
    async with database.connect() as admin:
        await admin.execute("SELECT pg_notify('changes', 'after')")
    assert await heard.next() == "after"


async def test_listeners_of_several_channels_hear_their_own(db: Database) -> None:
    first, second, third = Heard(), Heard(), Heard()
    await db.listen("first", first.payloads.put_nowait)
    assert await first.next() == ""
    await db.listen("second", second.payloads.put_nowait)
    await db.listen("first", third.payloads.put_nowait)
    assert [await second.next(), await third.next()] == ["", ""]
    await db.notify("first", "x")
    await db.notify("second", "y")
    assert [await first.next(), await second.next(), await third.next()] == ["x", "y", "x"]
