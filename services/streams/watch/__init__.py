"""Watching sessions: a snapshot, then every change, none lost.

A watcher pulls from its user's change log at its own pace and only sleeps when
it has caught up; being woken is a hint, polling is the truth. So nothing is
queued for anyone, a slow reader costs nothing, and a gap cannot be overlooked:
the log says so itself (RevisionExpired).
"""

from services.streams.watch.follow import Bookmark, Watch

__all__ = ["Bookmark", "Watch"]
