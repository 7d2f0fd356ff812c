"""RTMP as a server needs it: chunks to messages, AMF0, and the few answers a publisher waits for.

pyrtmp 0.3.1 was read first and not taken: it reads extended timestamps on
type-3 chunks wrongly (a stream older than 4.66 hours derails), counts a
message's chunks by the chunk size of the moment, raises at any message type it
does not know, sets the root logger to DEBUG on import, and goes through a bit
stream for every field, where a sink shared by many streams needs bytes.
"""

import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeAlias

VERSION: Final = 3
#: Bytes of time and noise after the version byte, and of each echo.
HANDSHAKE: Final = 1536
#: The chunk size we write with and announce. ffmpeg answers in kind, which
#: makes one chunk of nearly every message.
CHUNK_SIZE: Final = 65536

#: In the 24-bit timestamp field: 32 bits follow the header.
_EXTENDED: Final = 0xFFFFFF

#: Exactly so many bytes.
Read: TypeAlias = Callable[[int], Awaitable[bytes]]
Value: TypeAlias = "float | bool | str | list[Value] | Mapping[str, Value] | None"


class ProtocolError(Exception):
    """The peer does not speak RTMP, or not to the end."""


class Kind(IntEnum):
    """The message types known by name here; others pass unread."""

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW = 5
    BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    DATA = 18
    COMMAND = 20
    AGGREGATE = 22


#: What a viewer would get.
MEDIA: Final = frozenset({Kind.AUDIO, Kind.VIDEO, Kind.DATA, Kind.DATA_AMF3, Kind.AGGREGATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    kind: int
    payload: bytes
    #: Milliseconds, modulo 2**32.
    timestamp: int = 0
    stream_id: int = 0


@dataclass(slots=True)
class _ChunkStream:
    """What chunks take from the chunk before them, and the message under way."""

    timestamp: int = 0
    delta: int = 0
    extended: bool = False
    length: int = 0
    kind: int = 0
    stream_id: int = 0
    parts: bytearray = field(default_factory=bytearray)


async def messages(read: Read) -> AsyncIterator[Message]:
    """Whole messages, as long as `read` gives bytes.

    Obeys Set Chunk Size and Abort itself; they come out as messages, too.
    Raises ProtocolError, and whatever `read` raises.
    """
    streams: dict[int, _ChunkStream] = {}
    chunk_size = 128
    while True:
        stream = await _header(read, streams)
        stream.parts += await read(min(chunk_size, stream.length - len(stream.parts)))
        if len(stream.parts) < stream.length:
            continue
        message = Message(
            kind=stream.kind,
            payload=bytes(stream.parts),
            timestamp=stream.timestamp,
            stream_id=stream.stream_id,
        )
        stream.parts.clear()
        if message.kind == Kind.SET_CHUNK_SIZE:
            chunk_size = _number(message.payload) & 0x7FFFFFFF
            if not chunk_size:
                raise ProtocolError("a chunk size of zero")
        elif message.kind == Kind.ABORT and (aborted := streams.get(_number(message.payload))):
            aborted.parts.clear()
        yield message


async def _header(read: Read, streams: dict[int, _ChunkStream]) -> _ChunkStream:
    """The chunk stream whose payload comes next, brought up to date."""
    basic = (await read(1))[0]
    form, number = basic >> 6, basic & 0x3F
    if number < 2:
        number = 64 + int.from_bytes(await read(number + 1), "little")
    if number not in streams:
        if form:
            raise ProtocolError(f"chunk stream {number} begins without a whole header")
        streams[number] = _ChunkStream()
    stream = streams[number]
    if form < 3:
        if stream.parts:
            raise ProtocolError(f"chunk stream {number} begins a message inside another")
        stream.delta = int.from_bytes(await read(3), "big")
        stream.extended = stream.delta == _EXTENDED
    if form < 2:
        stream.length = int.from_bytes(await read(3), "big")
        stream.kind = (await read(1))[0]
    if form == 0:
        stream.stream_id = int.from_bytes(await read(4), "little")
        stream.timestamp = 0
    if stream.extended:
        # Repeated on every type-3 chunk, continuations included.
        stream.delta = _number(await read(4))
    if not stream.parts:
        stream.timestamp = (stream.timestamp + stream.delta) & 0xFFFFFFFF
    return stream


def chunks(message: Message) -> bytes:
    """The message as type-0 and type-3 chunks of CHUNK_SIZE on chunk stream 3."""
    header = struct.pack(">B", 3) + (0).to_bytes(3, "big") + len(message.payload).to_bytes(3, "big")
    header += struct.pack(">B", message.kind) + struct.pack("<I", message.stream_id)
    pieces = [message.payload[at : at + CHUNK_SIZE] for at in range(0, len(message.payload), CHUNK_SIZE)]
    return header + b"\xc3".join(pieces)


def control(kind: Kind, number: int, tail: bytes = b"") -> Message:
    """A protocol control message: one 32-bit number, and for some a byte more."""
    return Message(kind=kind, payload=struct.pack(">I", number) + tail)


def command(*values: Value, stream_id: int = 0) -> Message:
    return Message(kind=Kind.COMMAND, payload=b"".join(map(encode, values)), stream_id=stream_id)


def _number(payload: bytes) -> int:
    if len(payload) < 4:
        raise ProtocolError("a control message without its number")
    return int.from_bytes(payload[:4], "big")


def encode(value: Value) -> bytes:
    """One value as AMF0."""
    match value:
        case bool():
            return struct.pack(">BB", 1, value)
        case int() | float():
            return struct.pack(">Bd", 0, value)
        case str():
            return b"\x02" + _name(value)
        case None:
            return b"\x05"
        case list():
            return struct.pack(">BI", 10, len(value)) + b"".join(map(encode, value))
        case Mapping():
            pairs = b"".join(_name(key) + encode(one) for key, one in value.items())
            return b"\x03" + pairs + b"\x00\x00\x09"


def _name(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def decode(payload: bytes) -> list[Value]:
    """All AMF0 values of a command. Raises ProtocolError."""
    reader = _Amf(payload)
    values = []
    try:
        while reader.at < len(payload):
            values.append(reader.value())
    except (struct.error, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("a torn AMF0 value") from error
    return values


class _Amf:
    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self.at = 0

    def value(self) -> Value:
        match self._take(">B"):
            case 0:
                return float(self._take(">d"))
            case 1:
                return bool(self._take(">B"))
            case 2:
                return self._text(">H")
            case 3:
                return self._pairs()
            case 5 | 6:
                return None
            case 8:
                # An ECMA array counts its pairs and ends like an object all the same.
                self._take(">I")
                return self._pairs()
            case 10:
                return [self.value() for _ in range(self._take(">I"))]
            case 12:
                return self._text(">I")
            case other:
                raise ProtocolError(f"AMF0 marker {other}")

    def _take(self, form: str) -> Any:
        (number,) = struct.unpack_from(form, self._payload, self.at)
        self.at += struct.calcsize(form)
        return number

    def _text(self, form: str) -> str:
        size = self._take(form)
        if self.at + size > len(self._payload):
            raise ProtocolError("a torn AMF0 string")
        self.at += size
        return self._payload[self.at - size : self.at].decode()

    def _pairs(self) -> dict[str, Value]:
        pairs: dict[str, Value] = {}
        while (name := self._text(">H")) or self._payload[self.at : self.at + 1] != b"\x09":
            pairs[name] = self.value()
        self.at += 1
        return pairs
