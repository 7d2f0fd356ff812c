"""One process's watchers: who follows whom, and how far they have come."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.chassis.clock import Clock
from services.chassis.database import Database
from services.chassis.errors import ResourceNotFound, TokenExpired
from services.chassis.loops import Counts
from services.streams import store
from services.streams.model import Change, ChangeKind

#: Changes read at a time: bounds what one slow watcher holds in memory.
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Everything up to the revision has been sent."""

    revision: int
    initial_sync: bool = False


@dataclass(eq=False, slots=True)
class _Watcher:
    """Where one watch stands."""

    revision: int
    behind: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """Follows users' change logs."""

    def __init__(self, database: Database, clock: Clock, *, bookmark_every: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._bookmark_every = bookmark_every
        self._watchers: defaultdict[UUID, set[_Watcher]] = defaultdict(set)

    async def follow(
        self, caller: UUID, revision: int, *, until: datetime | None
    ) -> AsyncGenerator[Change | Bookmark, None]:
        """The caller's changes after `revision`; 0 means a snapshot first.

        Snapshot entries come in the order of their revisions, so a watch cut off
        anywhere may be resumed from the last revision it saw. Ends only by
        raising: RevisionExpired, TokenExpired at `until`, ResourceNotFound when
        the user is gone.
        """
        with self._watching(caller, revision) as watcher:
            if revision == 0:
                async for event in self._snapshot(caller, watcher):
                    yield event
            while True:
                watcher.behind.clear()
                changes = await store.changes_after(self._database, caller, watcher.revision, limit=_PAGE)
                for change in changes:
                    watcher.revision = change.revision
                    yield change
                if len(changes) < _PAGE and not await self._behind(watcher, until):
                    yield Bookmark(watcher.revision)

    def wake(self, users: Iterable[UUID] | None) -> None:
        """These users' logs, or with None anybody's, may have grown."""
        for user in list(self._watchers) if users is None else users:
            for watcher in self._watchers.get(user, ()):
                watcher.behind.set()

    async def poll(self) -> Counts:
        """Wake whoever a lost hint left behind: one statement for all watchers."""
        seen = [(user, min(one.revision for one in group)) for user, group in self._watchers.items()]
        advanced = await store.advanced_users(self._database, seen) if seen else []
        self.wake(advanced)
        return {}

    async def _snapshot(self, caller: UUID, watcher: _Watcher) -> AsyncIterator[Change | Bookmark]:
        snapshot = await store.snapshot_sessions(self._database, caller)
        if snapshot is None:
            raise ResourceNotFound.of("User", caller)
        for session in snapshot.sessions:
            yield Change(revision=session.revision, kind=ChangeKind.ADDED, session=session)
        watcher.revision = snapshot.revision
        yield Bookmark(snapshot.revision, initial_sync=True)

    async def _behind(self, watcher: _Watcher, until: datetime | None) -> bool:
        """Sleep until woken (True) or until a bookmark is due (False). Raises TokenExpired."""
        patience = self._bookmark_every
        if until is not None:
            patience = min(patience, until - self._clock.now())
        try:
            async with asyncio.timeout(patience.total_seconds()):
                await watcher.behind.wait()
        except TimeoutError:
            if until is not None and self._clock.now() >= until:
                raise TokenExpired from None
            return False
        return True

    @contextmanager
    def _watching(self, caller: UUID, revision: int) -> Iterator[_Watcher]:
        watcher = _Watcher(revision)
        self._watchers[caller].add(watcher)
        try:
            yield watcher
        finally:
            self._watchers[caller].discard(watcher)
            if not self._watchers[caller]:
                del self._watchers[caller]
