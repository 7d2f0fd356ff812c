"""RTMP framing and AMF0, against bytes written by hand from the specification."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.suite import rtmp
from cli.suite.rtmp import Kind, Message, ProtocolError


async def read_all(data: bytes) -> list[Message]:
    """Every message of these bytes; a torn tail is dropped."""
    at = 0

    async def read(size: int) -> bytes:
        nonlocal at
        if at + size > len(data):
            raise EOFError
        at += size
        return data[at - size : at]

    found: list[Message] = []
    with suppress(EOFError):
        async for message in rtmp.messages(read):
            found.append(message)
    return found


def header(form: int, number: int, *, time: int = 0, length: int = 0, kind: int = 9) -> bytes:
    field = min(time, 0xFFFFFF).to_bytes(3, "big")
    whole = field + length.to_bytes(3, "big") + bytes([kind]) + struct.pack("<I", 1)
    tail = struct.pack(">I", time) if time >= 0xFFFFFF and form < 3 else b""
    return bytes([form << 6 | number]) + whole[: (11, 7, 3, 0)[form]] + tail


async def test_message_longer_than_chunk_is_joined() -> None:
    body = bytes(range(256)) * 2
    data = header(0, 4, length=512) + body[:128]
    for at in range(128, 512, 128):
        data += header(3, 4) + body[at : at + 128]
    assert await read_all(data) == [Message(kind=9, payload=body, stream_id=1)]


async def test_messages_of_two_chunk_streams_interleave() -> None:
    data = header(0, 4, length=200) + bytes(128)
    data += header(0, 5, length=3, kind=8) + b"abc"
    data += header(3, 4) + bytes(72)
    assert [one.kind for one in await read_all(data)] == [8, 9]


async def test_chunk_size_changed_inside_a_message_holds_for_the_rest_of_it() -> None:
    data = header(0, 4, length=600) + bytes(128)
    data += rtmp.chunks(rtmp.control(Kind.SET_CHUNK_SIZE, 4096))
    data += header(3, 4) + bytes(472)
    assert [len(one.payload) for one in await read_all(data)] == [4, 600]


async def test_deltas_add_up_and_type_three_repeats_the_last() -> None:
    data = header(0, 4, time=1000, length=1) + b"a"
    data += header(1, 4, time=40, length=1) + b"b"
    data += header(2, 4, time=20) + b"c"
    data += header(3, 4) + b"d"
    assert [one.timestamp for one in await read_all(data)] == [1000, 1040, 1060, 1080]


async def test_extended_timestamp_is_repeated_on_continuations() -> None:
    late = 0x01000000
    data = header(0, 4, time=late, length=200) + bytes(128)
    data += header(3, 4) + struct.pack(">I", late) + b"x" * 72
    [message] = await read_all(data)
    assert message.timestamp == late
    assert message.payload == bytes(128) + b"x" * 72


@pytest.mark.parametrize(("number", "basic"), [(64, b"\x00\x00"), (319, b"\x00\xff"), (576, b"\x01\x00\x02")])
async def test_long_chunk_stream_numbers(number: int, basic: bytes) -> None:
    data = basic + header(0, 0, length=130)[1:] + bytes(128)
    data += bytes([basic[0] | 0xC0]) + basic[1:] + b"zz"
    assert [one.payload[-2:] for one in await read_all(data)] == [b"zz"]


async def test_abort_drops_the_message_under_way() -> None:
    data = header(0, 4, length=200) + bytes(128)
    data += rtmp.chunks(rtmp.control(Kind.ABORT, 4))
    data += header(0, 4, length=2) + b"ok"
    assert [one.payload for one in await read_all(data)] == [struct.pack(">I", 4), b"ok"]


@pytest.mark.parametrize(
    "data",
    [
        header(3, 7),
        rtmp.chunks(rtmp.control(Kind.SET_CHUNK_SIZE, 0)),
        rtmp.chunks(Message(kind=Kind.SET_CHUNK_SIZE, payload=b"\x01")),
        header(0, 4, length=200) + bytes(128) + header(0, 4, length=1) + b"a",
    ],
    ids=["continuation of nothing", "chunk size zero", "torn control", "message inside a message"],
)
async def test_broken_framing_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        await read_all(data)


@given(st.binary(min_size=1, max_size=3 * rtmp.CHUNK_SIZE), st.integers(0, 2**32 - 1))
async def test_own_chunks_read_back(payload: bytes, stream_id: int) -> None:
    message = Message(kind=Kind.DATA, payload=payload, stream_id=stream_id)
    grown = rtmp.chunks(rtmp.control(Kind.SET_CHUNK_SIZE, rtmp.CHUNK_SIZE))
    assert (await read_all(grown + rtmp.chunks(message)))[1] == message


values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=9), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.lists(values, max_size=5))
def test_amf_reads_back(sent: list[rtmp.Value]) -> None:
    assert rtmp.decode(b"".join(map(rtmp.encode, sent))) == sent


@given(st.lists(values, min_size=1, max_size=3), st.data())
def test_torn_amf_is_a_protocol_error_or_fewer_values(sent: list[rtmp.Value], data: st.DataObject) -> None:
    whole = b"".join(map(rtmp.encode, sent))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with suppress(ProtocolError):
        assert len(rtmp.decode(whole[:cut])) < len(sent)


def test_ecma_array_and_long_string_are_read() -> None:
    array = b"\x08" + struct.pack(">I", 1) + b"\x00\x01w" + rtmp.encode(640.0) + b"\x00\x00\x09"
    text = b"\x0c" + struct.pack(">I", 3) + b"abc"
    assert rtmp.decode(array + text) == [{"w": 640.0}, "abc"]


def test_deeply_nested_amf_is_refused() -> None:
    with pytest.raises(ProtocolError):
        rtmp.decode((b"\x0a" + struct.pack(">I", 1)) * 50_000)
