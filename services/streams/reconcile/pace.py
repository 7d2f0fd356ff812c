"""How soon a session that lost its encoder may be given another one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID


@dataclass(frozen=True, slots=True)
class _Record:
    losses: int
    not_before: datetime


class Pace:
    """Doubles the wait with every relaunch, forgets once the stream was healthy.

    The first relaunch is immediate: most losses are a single event, and a gap
    shorter than the ingest's patience keeps the broadcast alive.
    """

    def __init__(
        self, *, first: timedelta = timedelta(seconds=1), most: timedelta = timedelta(minutes=1)
    ) -> None:
        self._first = first
        self._most = most
        self._records: dict[UUID, _Record] = {}

    @property
    def not_before(self) -> Mapping[UUID, datetime]:
        """When each session that is waiting may be launched again."""
        return {session_id: record.not_before for session_id, record in self._records.items()}

    def launched(self, session_id: UUID, now: datetime) -> None:
        """Another encoder was started, or tried to."""
        losses = self._records[session_id].losses + 1 if session_id in self._records else 0
        wait = min(self._most, self._first * 2 ** min(losses, 16)) if losses else timedelta()
        self._records[session_id] = _Record(losses, now + wait)

    def forget(self, session_ids: Iterable[UUID]) -> None:
        """These have been healthy, or are no longer wanted."""
        for session_id in session_ids:
            self._records.pop(session_id, None)

    def keep(self, held: set[UUID]) -> None:
        """Forget everything but these."""
        self.forget(set(self._records) - held)
