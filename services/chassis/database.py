"""PostgreSQL as a service sees it: one statement, one round trip, one typed outcome.

The pool logs in as the service's own role. Nothing here sets a role or a
session setting: whatever a statement needs is local to the function it calls,
so a connection carries nothing from one borrower to the next, and the reset
round trip that asyncpg makes on each release is left out (measured: 310 us a
query with it, 155 us without; and it does not even undo SET ROLE).
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import orjson
from opentelemetry import trace

from services.chassis import deadline
from services.chassis.errors import Contention, DeadlineExceeded, Error, Unavailable, refusal

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

if TYPE_CHECKING:
    # Generic in their stubs only.
    PlainConnection = asyncpg.Connection[Record]
    Connection = asyncpg.Connection[Record] | asyncpg.pool.PoolConnectionProxy[Record]
    Pool = asyncpg.Pool[Record]
else:
    PlainConnection = Connection = asyncpg.Connection
    Pool = asyncpg.Pool

_log = logging.getLogger(__name__)
_tracer = trace.get_tracer(__name__)

# Serialization failures and deadlocks: PostgreSQL rolled the statement back, so
# it is safe to send again. Full jitter, so that two losers do not meet again.
_RETRY_PAUSES = (0.005, 0.02, 0.08, 0.2)
_RECONNECT_PAUSES = (0.1, 0.25, 0.5, 1.0, 2.0)
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
    #: 0 where a transaction pooler stands between (no prepared statements there).
    statement_cache_size: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.pool_min <= self.pool_max:
            raise ValueError("pool_min must be at least 1 and at most pool_max")


async def connect(config: DatabaseConfig, *, application_name: str) -> PlainConnection:
    """One connection outside any pool, without a statement timeout: for listening and leading."""
    connection: PlainConnection = await asyncpg.connect(
        **_login(config, application_name) | {"server_settings": _settings(application_name) | _KEEPALIVES}
    )
    return connection


# A client that vanishes without a word (power, network) must not hold its lock
# for the kernel's two hours: the server notices within ~20 s. Unix sockets ignore these.
_KEEPALIVES = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "3", "tcp_keepalives_count": "3"}


def _login(config: DatabaseConfig, application_name: str) -> dict[str, Any]:
    password = config.password_file.read_text(encoding="utf-8").strip() if config.password_file else None
    return {
        "dsn": config.url,
        **({"password": password} if password else {}),
        "timeout": config.connect_timeout.total_seconds(),
        "statement_cache_size": config.statement_cache_size,
        "server_settings": _settings(application_name)
        | {
            "statement_timeout": str(int(config.statement_timeout.total_seconds() * 1000)),
            "idle_in_transaction_session_timeout": str(int(config.statement_timeout.total_seconds() * 1000)),
        },
    }


def _settings(application_name: str) -> dict[str, str]:
    # Without jit: it spends 100 ms compiling plans that then run for 1 ms.
    return {"application_name": application_name, "jit": "off"}


class Database:
    """The pool; `async with Database(...) as db`."""

    def __init__(self, config: DatabaseConfig, *, application_name: str) -> None:
        self._config = config
        self._application_name = application_name
        self._pool: Pool
        self._listener = _Listener(self._connect)
        self._stack = AsyncExitStack()

    @property
    def config(self) -> DatabaseConfig:
        return self._config

    @property
    def application_name(self) -> str:
        return self._application_name

    async def __aenter__(self) -> Self:
        """Raises Unavailable when no connection comes about within the start timeout."""
        self._pool = asyncpg.create_pool(
            min_size=0,
            max_size=self._config.pool_max,
            init=_prepare,
            reset=_no_reset,
            max_inactive_connection_lifetime=0,
            **_login(self._config, self._application_name),
        )
        await self._pool
        self._stack.push_async_callback(self._close_pool)
        self._stack.push_async_callback(self._listener.close)
        try:
            await self._warm()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _close_pool(self) -> None:
        try:
            async with asyncio.timeout(2):
                await self._pool.close()
        except TimeoutError:
            self._pool.terminate()

    async def _warm(self) -> None:
        give_up_at = asyncio.get_running_loop().time() + self._config.start_timeout.total_seconds()
        for pause in _pauses(_RECONNECT_PAUSES):
            try:
                await self._open(self._config.pool_min)
                return
            except Unavailable:
                if asyncio.get_running_loop().time() + pause > give_up_at:
                    raise
                _log.warning("waiting for the database")
                await asyncio.sleep(pause)

    async def _open(self, count: int) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(count):
                await stack.enter_async_context(self._borrow())

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
        # Making a span costs ~10 us even when nobody records it.
        if not trace.get_current_span().is_recording():
            return await self._retried(verb, sql, args)
        with _tracer.start_as_current_span(
            _span_name(sql), kind=trace.SpanKind.CLIENT, attributes={"db.system.name": "postgresql"}
        ):
            return await self._retried(verb, sql, args)

    async def _retried(self, verb: str, sql: str, args: tuple[Any, ...]) -> Any:
        for pause in _RETRY_PAUSES:
            try:
                return await self._once(verb, sql, args)
            except Contention:
                await asyncio.sleep(pause * random.random())  # noqa: S311  (not a secret)
        return await self._once(verb, sql, args)

    async def _once(self, verb: str, sql: str, args: tuple[Any, ...]) -> Any:
        async with self._borrow() as connection:
            return await getattr(connection, verb)(sql, *args, timeout=deadline.remaining())

    # Several statements.

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside a transaction; committed at the end, rolled back on any error."""
        async with self._borrow() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _borrow(self) -> AsyncIterator[Connection]:
        with _Translated():
            timeout = deadline.remaining()
            longest = self._config.connect_timeout.total_seconds()
            async with self._pool.acquire(
                timeout=longest if timeout is None else min(timeout, longest)
            ) as connection:
                yield connection

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
        """Calls back with each payload, and with "" after each connect: whoever listens may have missed some."""
        await self._listener.add(channel, callback)

    async def notify(self, channel: str, payload: str) -> None:
        """Wakes the listeners of all processes. Never inside a transaction that writes:
        commits of notifying transactions are serialized across the whole database."""
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def _connect(self) -> PlainConnection:
        return await connect(self._config, application_name=self._application_name)


_UNPROTECTED = """
SELECT n.nspname || '.' || c.relname AS name
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('public', 'private') AND NOT c.relrowsecurity
ORDER BY 1
"""


async def _prepare(connection: PlainConnection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=_to_json, decoder=orjson.loads, format="text"
        )


def _to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


async def _no_reset(_: object) -> None:
    """See the module's first paragraph."""


def _span_name(sql: str) -> str:
    # A named query knows its name; anything else is told by its verb.
    name = getattr(sql, "name", None)
    return name if isinstance(name, str) else sql.split(None, 1)[0].upper()


def _pauses(pauses: tuple[float, ...]) -> Any:
    yield from pauses
    while True:
        yield pauses[-1]


class _Translated:
    """Turns what asyncpg and the socket raise into the catalogue's errors."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if error is None or isinstance(error, Error):
            return
        translated = translate(error)
        if translated is not None:
            raise translated from error


def translate(error: BaseException) -> Error | None:
    """The catalogue's error for a failure of the database; None for one that is nobody's but ours."""
    match error:
        case asyncpg.PostgresError(sqlstate=state) if state == _REFUSAL:
            return refusal(error.message, _metadata(error.detail))
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError():
            return Contention(private=str(error))
        case asyncpg.QueryCanceledError() | TimeoutError():
            return DeadlineExceeded(private=str(error))
        case asyncpg.PostgresError(sqlstate=str(state)) if state[:2] in _GONE or state in _GONE:
            return Unavailable.of("database", private=f"{state}: {error}")
        case asyncpg.InterfaceError() | OSError():
            return Unavailable.of("database", private=str(error))
        case _:
            return None


# Connection exceptions, insufficient resources (too many connections), operator
# intervention (shutdown, cannot connect now), system errors, and a password that
# was just rotated.
_GONE = frozenset({"08", "53", "57", "58", "28P01", "28000"})


def _metadata(detail: str | None) -> Mapping[str, str]:
    try:
        document = orjson.loads(detail or "{}")
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(document, dict):
        return {}
    return {key: value if isinstance(value, str) else str(value) for key, value in document.items()}


class _Listener:
    """One connection for all channels, connected again for ever."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._callbacks: dict[str, list[Callable[[str], None]]] = {}
        self._connection: PlainConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._first = asyncio.Event()

    async def add(self, channel: str, callback: Callable[[str], None]) -> None:
        self._callbacks.setdefault(channel, []).append(callback)
        if self._connection is not None:
            await self._subscribe(self._connection, channel)
            callback("")
        elif self._task is None:
            self._task = asyncio.create_task(self._stay_connected(), name="database listener")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stay_connected(self) -> None:
        while True:
            for pause in _pauses(_RECONNECT_PAUSES):
                try:
                    connection = await self._connect()
                    break
                except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    _log.warning("listener not connected", extra={"detail": str(error)})
                    await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311
            try:
                await self._follow(connection)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                _log.warning("listener lost its connection", extra={"detail": str(error)})
            finally:
                self._connection = None
                connection.terminate()

    async def _follow(self, connection: PlainConnection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        for channel in list(self._callbacks):
            await self._subscribe(connection, channel)
        self._connection = connection
        for callbacks in self._callbacks.values():
            for callback in callbacks:
                callback("")
        while not lost.is_set():
            try:
                async with asyncio.timeout(_PROBE_EVERY):
                    await lost.wait()
            except TimeoutError:
                # A half-open connection delivers nothing and says nothing.
                await connection.fetchval("SELECT 1", timeout=_PROBE_EVERY)

    async def _subscribe(self, connection: PlainConnection, channel: str) -> None:
        await connection.add_listener(channel, self._deliver)

    def _deliver(self, _connection: Any, _pid: int, channel: str, payload: Any) -> None:
        for callback in self._callbacks.get(channel, ()):
            callback(str(payload))


_PROBE_EVERY = 10.0
