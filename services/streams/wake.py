"""Waking watchers and the reconciler after a commit, in every process.

A hint, never the truth: it is sent after the commit, not in it (NOTIFY inside
write transactions halves their throughput, measured at 8 writers), it may be
lost, and whoever depends on it polls besides.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID, uuid4

from services.chassis.database import Database
from services.chassis.errors import Error

_log = logging.getLogger(__name__)

_CHANNEL = "streamax_sessions"

#: PostgreSQL refuses payloads of 8,000 bytes and more: 200 UUIDs and change.
_MOST_USERS = 200

#: Told which users' sessions changed; None means anybody's.
Listener = Callable[[frozenset[UUID] | None], None]


class Waker:
    """Spreads the news that users' sessions changed."""

    def __init__(self, database: Database, *, gather: timedelta = timedelta(milliseconds=20)) -> None:
        self._database = database
        self._gather = gather
        self._origin = uuid4().hex
        self._listeners: list[Listener] = []
        self._pending: set[UUID] = set()
        self._some = asyncio.Event()

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Meanwhile call this at every news, own or other processes'."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def touched(self, user_id: UUID) -> None:
        """Something of this user was committed: wake this process now, the others soon."""
        self._pending.add(user_id)
        self._some.set()
        self._tell(frozenset((user_id,)))

    async def run(self) -> None:
        """Listen for others and tell them, many changes in one notification."""
        await self._database.listen(_CHANNEL, self._hear)
        while True:
            await self._some.wait()
            await asyncio.sleep(self._gather.total_seconds())
            self._some.clear()
            users, self._pending = self._pending, set()
            text = ",".join(user.hex for user in users) if len(users) <= _MOST_USERS else "*"
            try:
                await self._database.notify(_CHANNEL, f"{self._origin}:{text}")
            except Error as error:
                # Without a database nobody hears; the others poll, and learn of it all the same.
                _log.info("a hint was lost", extra={"reason": error.reason})

    def _hear(self, payload: str) -> None:
        origin, _, text = payload.partition(":")
        if origin == self._origin:
            return
        # Empty: the listening connection was made anew and may have missed any.
        everyone = text in ("", "*")
        self._tell(None if everyone else frozenset(UUID(user) for user in text.split(",")))

    def _tell(self, users: frozenset[UUID] | None) -> None:
        for listener in self._listeners:
            listener(users)
