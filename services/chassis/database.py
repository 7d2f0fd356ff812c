"""PostgreSQL as a service sees it: one statement, one round trip, one typed outcome.

The pool logs in as the service's own role. Nothing here sets a role or a
session setting: whatever a statement needs is local to the function it calls,
so a connection carries nothing from one borrower to the next and is not reset
between them. (asyncpg's reset costs a round trip, and does not undo SET ROLE.)
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import asyncpg
import orjson
from opentelemetry import trace

from services.chassis import deadline
from services.chassis.errors import Contention, DeadlineExceeded, Error, Unavailable, refusal
from services.chassis.listener import Listener, pauses
from services.chassis.pool import Lent, PlainConnection, Pool

__all__ = [
    "Connection",
    "Database",
    "DatabaseConfig",
    "PlainConnection",
    "Record",
    "UnprotectedTables",
    "connect",
]

Record = asyncpg.Record
#: What `transaction` gives: asyncpg's own connection.
Connection = PlainConnection

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)

# Serialization failures and deadlocks: PostgreSQL rolled the statement back, so
# it is safe to send again. Full jitter, so that two losers do not meet again.
_RETRY_PAUSES = (0.005, 0.02, 0.08, 0.2)
_SPAN_ATTRIBUTES = {"db.system.name": "postgresql"}
_CLOSE_PATIENCE = 2.0
_REFUSAL = "SX001"


class UnprotectedTables(Exception):
    """Tables without row-level security; the service must not serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """How to log in, and the limits of the pool."""

    #: postgresql://role@host:port/name; the password belongs in password_file.
    url: str
    password_file: Path | None = None
    pool_min: int = 2
    pool_max: int = 10
    connect_timeout: timedelta = timedelta(seconds=5)
    #: How long the first connection may be tried: the database may still be starting.
    start_timeout: timedelta = timedelta(seconds=30)
    #: The server ends whatever runs longer; calls have their own, shorter deadlines.
    statement_timeout: timedelta = timedelta(seconds=30)
    #: A connection is replaced after so long: backends cache what they saw, and only grow.
    connection_life: timedelta = timedelta(minutes=30)
    #: 0 where a transaction pooler stands between (no prepared statements there).
    statement_cache_size: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.pool_min <= self.pool_max:
            raise ValueError("pool_min must be at least 1 and at most pool_max")


async def connect(config: DatabaseConfig, *, application_name: str) -> PlainConnection:
    """One connection outside any pool, without a statement timeout: for listening and leading."""
    return await _connect(config, application_name, _KEEPALIVES)


# A client that vanishes without a word (power, network) must not hold its lock
# for the kernel's two hours: the server notices within ~20 s. Unix sockets ignore these.
_KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3"}


async def _connect(
    config: DatabaseConfig, application_name: str, settings: Mapping[str, str]
) -> PlainConnection:
    password = config.password_file.read_text(encoding="utf-8").strip() if config.password_file else None
    connection: PlainConnection = await asyncpg.connect(
        config.url,
        password=password,
        timeout=config.connect_timeout.total_seconds(),
        statement_cache_size=config.statement_cache_size,
        # Without jit: it spends 100 ms compiling plans that then run for 1 ms.
        server_settings={"application_name": application_name, "jit": "off", **settings},
    )
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text"
        )
    return connection


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


class Database:
    """The pool; `async with Database(...) as db`."""

    def __init__(self, config: DatabaseConfig, *, application_name: str) -> None:
        self._config = config
        self._application_name = application_name
        self._patience = config.connect_timeout.total_seconds()
        self._pool: Pool
        self._listener = Listener(self._connect_plain)
        self._stack = AsyncExitStack()

    @property
    def config(self) -> DatabaseConfig:
        return self._config

    @property
    def application_name(self) -> str:
        return self._application_name

    async def __aenter__(self) -> Self:
        """Raises Unavailable when no connection comes about within the start timeout."""
        self._pool = Pool(
            self._connect_pooled,
            size=self._config.pool_max,
            longest_life=self._config.connection_life.total_seconds(),
        )
        self._stack.push_async_callback(self._pool.close, patience=_CLOSE_PATIENCE)
        self._stack.push_async_callback(self._listener.close)
        try:
            await self._warm()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _connect_pooled(self) -> PlainConnection:
        milliseconds = str(int(self._config.statement_timeout.total_seconds() * 1000))
        return await _connect(
            self._config,
            self._application_name,
            {"statement_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds},
        )

    async def _connect_plain(self) -> PlainConnection:
        return await connect(self._config, application_name=self._application_name)

    async def _warm(self) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._config.start_timeout.total_seconds()
        for pause in pauses():
            try:
                await self._open(self._config.pool_min)
                return
            except Unavailable as error:
                if loop.time() + pause > give_up_at:
                    raise
                _log.warning("waiting for the database", extra={"detail": error.private})
            await asyncio.sleep(pause)

    async def _open(self, count: int) -> None:
        opened: list[Lent] = []
        try:
            while len(opened) < count:
                opened.append(await self._wait())
        finally:
            for lent in opened:
                self._pool.give_back(lent)

    # One statement each.

    async def fetch(self, sql: str, *args: Any) -> list[Record]:
        """All rows of one statement."""
        rows: list[Record] = await self._run("fetch", sql, args)
        return rows

    async def fetchrow(self, sql: str, *args: Any) -> Record | None:
        """The first row, None when there is none."""
        row: Record | None = await self._run("fetchrow", sql, args)
        return row

    async def fetchval(self, sql: str, *args: Any) -> Any:
        """The first column of the first row, None when there is none."""
        return await self._run("fetchval", sql, args)

    async def execute(self, sql: str, *args: Any) -> str:
        """The command tag, as "UPDATE 1"."""
        tag: str = await self._run("execute", sql, args)
        return tag

    async def _run(self, verb: str, sql: str, args: tuple[Any, ...]) -> Any:
        if not trace.get_current_span().is_recording():
            return await self._retried(verb, sql, args)
        span = _tracer.start_span(_span_name(sql), kind=trace.SpanKind.CLIENT, attributes=_SPAN_ATTRIBUTES)
        try:
            return await self._retried(verb, sql, args)
        except BaseException as error:
            span.record_exception(error)
            raise
        finally:
            span.end()

    async def _retried(self, verb: str, sql: str, args: tuple[Any, ...]) -> Any:
        for pause in _RETRY_PAUSES:
            try:
                return await self._once(verb, sql, args)
            except Contention:
                await asyncio.sleep(pause * random.random())  # noqa: S311  (not a secret)
        return await self._once(verb, sql, args)

    async def _once(self, verb: str, sql: str, args: tuple[Any, ...]) -> Any:
        lent = self._pool.take() or await self._wait()
        try:
            # Without asyncpg's own timeout: the call's deadline cancels us, which cancels the
            # statement at the server, and a second timer would cost 5 us to say the same.
            result = await getattr(lent.connection, verb)(sql, *args)
        except BaseException as error:
            translated = self._failed(lent, error)
            if translated is error:
                raise
            raise translated from error
        self._pool.give_back(lent)
        return result

    async def _wait(self) -> Lent:
        try:
            return await self._pool.wait(patience=deadline.at_most(self._patience))
        except TimeoutError as error:
            # Nothing was sent, so this is never the statement's fault.
            raise Unavailable.of("database", private="no connection became free in time") from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable.of("database", private=f"not connected: {error}") from error

    def _failed(self, lent: Lent, error: BaseException) -> BaseException:
        lost = lent.connection.is_closed()
        # After an error that the server reported the connection is as good as before.
        self._pool.give_back(lent, doubtful=not isinstance(error, asyncpg.PostgresError))
        translated = translate(error, lost=lost)
        if isinstance(error, asyncpg.PostgresError):
            # For a broken constraint it quotes the whole row, password hashes included, and
            # would be logged with the traceback.
            error.detail = None
        return translated

    # Several statements.

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction; committed at the end, rolled back on any error."""
        lent = self._pool.take() or await self._wait()
        try:
            async with lent.connection.transaction():
                yield lent.connection
        except BaseException as error:
            translated = self._failed(lent, error)
            if translated is error:
                raise
            raise translated from error
        self._pool.give_back(lent)

    # What the operator and the health service ask.

    async def check(self) -> None:
        """Raises Unavailable when the database does not answer."""
        await self.fetchval("SELECT 1")

    async def refuse_unprotected_tables(self) -> None:
        """Raises UnprotectedTables, naming each table of ours without row-level security."""
        rows = await self.fetch(_UNPROTECTED)
        if rows:
            names = ", ".join(row["name"] for row in rows)
            raise UnprotectedTables(f"row-level security is not enabled on {names}")

    # Wake-ups.

    async def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Calls back with each payload, and with "" after each connect: some may have been missed."""
        await self._listener.add(channel, callback)

    async def notify(self, channel: str, payload: str) -> None:
        """Wakes the listeners of all processes. Never inside a transaction that writes:
        commits of notifying transactions are serialized across the whole database."""
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)


_UNPROTECTED = """
SELECT n.nspname || '.' || c.relname AS name
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'private') AND NOT c.relrowsecurity
ORDER BY 1
"""


def _span_name(sql: str) -> str:
    # A named query knows its name; anything else is told by its verb.
    name = getattr(sql, "name", None)
    return name if isinstance(name, str) else sql.split(None, 1)[0].upper()


def translate(error: BaseException, *, lost: bool) -> BaseException:
    """The catalogue's error for a failure of the database; the error itself when it is none.

    `lost` tells asyncpg's errors about a connection that is gone from those about how it was used.
    """
    match error:
        case Error():
            return error
        case asyncpg.PostgresError(sqlstate=state) if state == _REFUSAL:
            return refusal(error.message, _metadata(error.detail))
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return Contention(private=str(error))
        case asyncpg.QueryCanceledError() | TimeoutError():
            return DeadlineExceeded(private=str(error))
        case asyncpg.PostgresError(sqlstate=str(state)) if state[:2] in _GONE:
            return Unavailable.of("database", private=f"{state}: {error}")
        case asyncpg.InterfaceError() if not lost:
            return error
        case asyncpg.InterfaceError() | asyncpg.InternalClientError() | OSError():
            return Unavailable.of("database", private=str(error))
        case _:
            return error


# Connection exceptions, insufficient resources (too many connections), operator
# intervention (shutdown, starting up), system errors.
_GONE = frozenset({"08", "53", "57", "58"})


def _metadata(detail: str | None) -> Mapping[str, str]:
    try:
        document = orjson.loads(detail or "{}")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {key: value if isinstance(value, str) else str(value) for key, value in document.items()}
