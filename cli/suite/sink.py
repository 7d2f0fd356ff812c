"""A small RTMP server that counts what it is given and misbehaves on command.

It sees a stream as an ingest does, from outside: connections, publishers, media
bytes, pauses, and whether two ever published on one key at once. Sockets are
read by hand rather than through asyncio's streams, because misbehaving means
deciding about every single read, and about RST against FIN.
"""

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Self

from cli.suite import rtmp
from cli.suite.rtmp import Kind, ProtocolError

#: Small, so that a sender soon notices that nobody reads: what fits in here is
#: acknowledged by the kernel all the same.
RECEIVE_BUFFER: Final = 64 * 1024
#: RTMP's own acknowledgement comes this often, in bytes; ffmpeg counts on none.
WINDOW: Final = 2_500_000
#: The one message stream a connection gets.
STREAM_ID: Final = 1
#: How long a denied publisher may take to hang up, seconds.
FAREWELL: Final = 2.0


class Mode(StrEnum):
    """How connections are treated, live ones too where it says so."""

    ACCEPT = "accept"
    #: Nobody listens, so connections are refused. Live ones go on.
    CLOSED = "closed"
    #: Hangs up before the handshake. Live ones go on.
    HANG_UP = "hang_up"
    #: Denies to publish. Live publications go on.
    REJECT_KEY = "reject_key"
    #: Reads nothing more from whoever has sent media, live ones included.
    FREEZE = "freeze"
    #: Sends RST at the first media message, to live ones at once.
    RESET = "reset"
    #: Takes connections and never reads a byte of them, nor any more of live ones.
    NEVER_READ = "never_read"


#: Decided before the key is known.
_KEYLESS: Final = frozenset({Mode.CLOSED, Mode.HANG_UP, Mode.NEVER_READ})


@dataclass(slots=True, kw_only=True)
class Publication:
    """One publisher on one key, from `publish` to its end. Moments are time.monotonic()."""

    key: str
    app: str
    peer: str
    began_at: float
    ended_at: float | None = None
    media_bytes: int = 0
    first_media_at: float | None = None
    last_media_at: float | None = None
    #: The longest time between two media messages, seconds.
    longest_pause: float = 0.0
    #: The media's own clock at the first message and at its furthest, milliseconds.
    first_timestamp: int = 0
    last_timestamp: int = 0

    @property
    def live(self) -> bool:
        return self.ended_at is None

    @property
    def media_seconds(self) -> float:
        return (self.last_timestamp - self.first_timestamp) / 1000

    def count(self, message: rtmp.Message) -> None:
        now = time.monotonic()
        if self.last_media_at is None:
            self.first_media_at, self.first_timestamp = now, message.timestamp
        else:
            self.longest_pause = max(self.longest_pause, now - self.last_media_at)
        self.last_media_at = now
        # Audio and video interleave: one's clock may trail the other's.
        self.last_timestamp = max(self.last_timestamp, message.timestamp)
        self.media_bytes += len(message.payload)


@dataclass(slots=True)
class KeyRecord:
    """Everything seen of one stream key."""

    publications: list[Publication] = field(default_factory=list)
    #: Publications begun while another on the same key was live.
    overlaps: int = 0
    #: Publications denied.
    rejected: int = 0

    @property
    def publisher(self) -> Publication | None:
        """The latest live publication."""
        return next((one for one in reversed(self.publications) if one.live), None)

    @property
    def media_bytes(self) -> int:
        return sum(one.media_bytes for one in self.publications)


class Sink:
    """An RTMP server in this process: `async with Sink() as sink`.

    Port 0 takes a free one. The awaits wait for the event itself and have no
    deadline of their own: wrap them in asyncio.timeout.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.host = host
        self.port = port
        #: Connections accepted, hung up on ones included.
        self.connections = 0
        self._records: dict[str, KeyRecord] = {}
        self._mode = Mode.ACCEPT
        self._key_modes: dict[str, Mode] = {}
        self._live: dict[_Connection, asyncio.Task[None]] = {}
        self._socket: socket.socket | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        await self._open(listening=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shut()
        await self._end(self._live)

    def url(self, app: str = "live") -> str:
        return f"rtmp://{self.host}:{self.port}/{app}"

    def key(self, key: str) -> KeyRecord:
        """The record of this key, an empty one if it was never heard of."""
        return self._records.setdefault(key, KeyRecord())

    def snapshot(self) -> dict[str, Any]:
        """Everything counted, fit for JSON."""
        keys = {
            key: {
                "publishing": record.publisher is not None,
                "publications": len(record.publications),
                "media_bytes": record.media_bytes,
                "media_seconds": sum(one.media_seconds for one in record.publications),
                "overlaps": record.overlaps,
                "rejected": record.rejected,
            }
            for key, record in self._records.items()
        }
        return {"mode": self._mode, "connections": self.connections, "live": len(self._live), "keys": keys}

    # Misbehaving

    async def behave(self, mode: Mode, key: str | None = None) -> None:
        """From now on, for everybody, or for one key until everybody is told again."""
        if key is not None:
            if mode in _KEYLESS:
                raise ValueError(f"{mode} happens before the key is known")
            self._key_modes[key] = mode
        else:
            reopen = Mode.CLOSED in (mode, self._mode)
            self._key_modes.clear()
            self._mode = mode
            if reopen:
                await self._shut()
                await self._open(listening=mode is not Mode.CLOSED)
        if mode is Mode.RESET:
            await self.reset(key)
        self.changed()

    async def reset(self, key: str | None = None) -> None:
        """RST to the live connections (of this key), once."""
        connections = self._of(key)
        for connection in connections:
            connection.abort_on_close()
        await self._end(connections)

    async def hang_up(self, key: str | None = None) -> None:
        """FIN to the live connections (of this key), once."""
        await self._end(self._of(key))

    def mode_for(self, key: str | None) -> Mode:
        return self._mode if key is None else self._key_modes.get(key, self._mode)

    def _of(self, key: str | None) -> "list[_Connection]":
        return [one for one in self._live if key is None or one.key == key]

    # Events

    async def publisher(self, key: str) -> Publication:
        """The live publication on this key, once there is one."""
        while (publisher := self.key(key).publisher) is None:
            await self.until(lambda: self.key(key).publisher is not None)
        return publisher

    async def received(self, key: str, size: int) -> KeyRecord:
        """Once so many media bytes have come on this key, all publications together."""
        await self.until(lambda: self.key(key).media_bytes >= size)
        return self.key(key)

    async def gone(self, key: str) -> KeyRecord:
        """Once nobody publishes on this key."""
        await self.until(lambda: self.key(key).publisher is None)
        return self.key(key)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Once `holds()`, which is asked again at every event."""
        if holds():
            return
        entry = holds, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            await entry[1]
        finally:
            self._waiting.remove(entry)

    def changed(self) -> None:
        for holds, future in self._waiting:
            if not future.done() and holds():
                future.set_result(None)

    # Connections

    async def _open(self, *, listening: bool) -> None:
        self._socket = sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.bind((self.host, self.port))
        self.port = sock.getsockname()[1]
        # Bound without listening, the port stays ours and refuses connections.
        if listening:
            sock.listen(128)
            self._acceptor = asyncio.create_task(self._accept(sock), name="sink accept")

    async def _shut(self) -> None:
        if self._acceptor is not None:
            await _cancelled([self._acceptor])
            self._acceptor = None
        if self._socket is not None:
            self._socket.close()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, (host, port) = await asyncio.get_running_loop().sock_accept(listener)
            self.connections += 1
            if self._mode is Mode.HANG_UP:
                sock.close()
                self.changed()
                continue
            self._begin(_Connection(self, sock, f"{host}:{port}"))

    def _begin(self, connection: "_Connection") -> None:
        self._live[connection] = task = asyncio.create_task(_serve(connection), name="sink connection")

        # Not a `finally` in the task: one cancelled before its first step never gets there.
        def ended(_: asyncio.Task[None]) -> None:
            connection.close()
            del self._live[connection]
            self.changed()

        task.add_done_callback(ended)
        self.changed()

    async def _end(self, connections: "Iterable[_Connection]") -> None:
        await _cancelled([self._live[one] for one in connections])


class _Connection:
    """One peer, from the handshake on. Raises EOFError, OSError or ProtocolError when it ends."""

    def __init__(self, sink: Sink, sock: socket.socket, peer: str) -> None:
        self._sink = sink
        self._sock = sock
        self._peer = peer
        self._app = ""
        self._publication: Publication | None = None
        self._buffer = bytearray()
        self._received = 0
        self._acknowledged = 0

    @property
    def key(self) -> str | None:
        return self._publication.key if self._publication else None

    def abort_on_close(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        self._unpublish()
        self._sock.close()

    async def converse(self) -> None:
        await self._shake_hands()
        async for message in rtmp.messages(self._read):
            if message.kind == Kind.COMMAND:
                await self._obey(rtmp.decode(message.payload), message.stream_id)
            elif message.kind in rtmp.MEDIA and self._publication:
                self._publication.count(message)
                self._sink.changed()
                if self._mode is Mode.RESET:
                    self.abort_on_close()
                    return

    async def _shake_hands(self) -> None:
        version = await self._read(1)
        if version[0] != rtmp.VERSION:
            raise ProtocolError(f"RTMP version {version[0]}")
        theirs = await self._read(rtmp.HANDSHAKE)
        ours = bytes(8) + os.urandom(rtmp.HANDSHAKE - 8)
        await self._send(version + ours + theirs)
        await self._read(rtmp.HANDSHAKE)

    async def _obey(self, values: list[rtmp.Value], stream_id: int) -> None:
        match values:
            case ["connect", float(number), {"app": str(app)}, *_]:
                self._app = app
                await self._welcome(number)
            case ["createStream", float(number), *_]:
                await self._say(rtmp.command("_result", number, None, STREAM_ID))
            case ["publish", _, _, str(key), *_]:
                await self._publish(key, stream_id)
            case ["FCUnpublish" | "deleteStream" | "closeStream", *_]:
                self._unpublish()
                self._sink.changed()
            case _:
                # releaseStream, FCPublish and their like: no publisher waits for an answer.
                pass

    async def _welcome(self, number: float) -> None:
        await self._say(
            rtmp.control(Kind.WINDOW, WINDOW),
            rtmp.control(Kind.BANDWIDTH, WINDOW, b"\x02"),
            rtmp.control(Kind.SET_CHUNK_SIZE, rtmp.CHUNK_SIZE),
            rtmp.command(
                "_result",
                number,
                {"fmsVer": "FMS/3,0,1,123", "capabilities": 31},
                _status("status", "NetConnection.Connect.Success", "connected"),
            ),
        )

    async def _publish(self, key: str, stream_id: int) -> None:
        record = self._sink.key(key)
        if self._sink.mode_for(key) is Mode.REJECT_KEY:
            record.rejected += 1
            self._sink.changed()
            status = _status("error", "NetStream.Publish.BadName", "denied")
            await self._say(rtmp.command("onStatus", 0, None, status, stream_id=stream_id))
            await self._part()
            raise EOFError
        self._unpublish()
        record.overlaps += record.publisher is not None
        self._publication = Publication(key=key, app=self._app, peer=self._peer, began_at=time.monotonic())
        record.publications.append(self._publication)
        self._sink.changed()
        status = _status("status", "NetStream.Publish.Start", "publishing")
        await self._say(rtmp.command("onStatus", 0, None, status, stream_id=stream_id))

    def _unpublish(self) -> None:
        if self._publication and self._publication.live:
            self._publication.ended_at = time.monotonic()
        self._publication = None

    async def _part(self) -> None:
        """Lets the peer read our last words: closing on unread bytes would send RST instead."""
        self._sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError, EOFError):
            async with asyncio.timeout(FAREWELL):
                while True:
                    await self._read(1)

    # The wire

    @property
    def _mode(self) -> Mode:
        return self._sink.mode_for(self.key)

    def _readable(self) -> bool:
        if self._mode is Mode.FREEZE:
            return self._publication is None or not self._publication.media_bytes
        return self._mode is not Mode.NEVER_READ

    async def _read(self, size: int) -> bytes:
        while True:
            # Asked after every read, too: what came while freezing is not looked at.
            await self._sink.until(self._readable)
            if len(self._buffer) >= size:
                break
            data = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
            if not data:
                raise EOFError
            self._buffer += data
            self._received += len(data)
        await self._acknowledge()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def _acknowledge(self) -> None:
        if self._received - self._acknowledged >= WINDOW:
            self._acknowledged = self._received
            await self._say(rtmp.control(Kind.ACKNOWLEDGEMENT, self._received & 0xFFFFFFFF))

    async def _say(self, *messages: rtmp.Message) -> None:
        await self._send(b"".join(map(rtmp.chunks, messages)))

    async def _send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)


def _status(level: str, code: str, description: str) -> dict[str, rtmp.Value]:
    return {"level": level, "code": code, "description": description}


async def _serve(connection: _Connection) -> None:
    # However a publisher leaves, it has left.
    with contextlib.suppress(EOFError, OSError, ProtocolError):
        await connection.converse()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
