"""Admission: from a user's wish to a session that holds a slot.

Everything that can be checked without the database is checked before it is
asked; then one statement takes the slot or refuses.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from services.chassis.database import Database
from services.chassis.errors import InvalidField
from services.chassis.vault import Vault
from services.streams import store
from services.streams.destination import Allowlist, Destination
from services.streams.media.library import Library, MediaFile
from services.streams.media.probe import Prober
from services.streams.model import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a caller asks to be live."""

    video_source: str
    rtmp_url: str
    stream_key: str = field(repr=False)
    request_id: UUID | None


def key_context(session_id: UUID) -> bytes:
    """Binds a sealed stream key to its session: it unseals nowhere else."""
    return b"stream-key:" + session_id.bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Admits streams."""

    database: Database
    vault: Vault
    destinations: Allowlist
    library: Library
    prober: Prober
    new_id: Callable[[], UUID]

    async def start(self, caller: UUID, wish: Wish) -> Session:
        """Check the wish and take a slot for it.

        Raises InvalidField on `rtmp_url`, `stream_key` or `video_source`, and
        what store.start_stream raises.
        """
        try:
            destination, media = await self._check(caller, wish)
        except InvalidField:
            first = await self._first_answer(caller, wish)
            if first is None:
                raise
            return first
        session_id = self.new_id()
        return await store.start_stream(
            self.database,
            caller,
            store.NewSession(
                id=session_id,
                video_source=media.path,
                rtmp_url=destination.public_url,
                target_hash=self.vault.fingerprint(destination.identity(), purpose="stream target"),
                sealed_key=self.vault.seal(destination.key.encode(), context=key_context(session_id)),
                request_id=wish.request_id,
                fingerprint=self._fingerprint(wish),
            ),
        )

    async def _check(self, caller: UUID, wish: Wish) -> tuple[Destination, MediaFile]:
        destination = Destination.parse(wish.rtmp_url, wish.stream_key, allowed=self.destinations)
        media = self.library.find(caller, wish.video_source)
        await self.prober.probe(media)
        return destination, media

    async def _first_answer(self, caller: UUID, wish: Wish) -> Session | None:
        """What a repeat is owed though its file is gone, or the allow-list changed, since it was admitted."""
        if wish.request_id is None:
            return None
        return await store.first_start(self.database, caller, wish.request_id, self._fingerprint(wish))

    def _fingerprint(self, wish: Wish) -> bytes:
        """What makes two requests the same; keyed, because it covers the stream key."""
        parts = json.dumps([wish.video_source, wish.rtmp_url, wish.stream_key]).encode()
        return self.vault.fingerprint(hashlib.sha256(parts).digest(), purpose="request")
