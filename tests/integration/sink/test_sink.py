"""The sink against a real ffmpeg: what it counts, and how it misbehaves."""

import asyncio
import socket
import time
from pathlib import Path

import pytest

from cli.suite.sink import Mode, Sink
from tests.support.publisher import publishing

pytestmark = pytest.mark.timeout(30)

KEY = "a-key"
#: A few messages of the sample, well inside its first second.
SOME = 20_000


async def refused(sink: Sink) -> bool:
    try:
        with socket.create_connection((sink.host, sink.port), timeout=2):
            return False
    except ConnectionRefusedError:
        return True


async def test_counts_media_of_a_publisher(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url('app')}/{KEY}"):
        publication = await sink.publisher(KEY)
        record = await sink.received(KEY, SOME)
    await sink.gone(KEY)

    assert (publication.app, publication.key) == ("app", KEY)
    assert record.publications == [publication]
    assert publication.first_media_at is not None
    assert publication.ended_at is not None
    assert publication.began_at <= publication.first_media_at <= publication.ended_at
    assert publication.media_bytes >= SOME
    assert record.overlaps == 0
    assert sink.connections == 1


async def test_media_bytes_leave_out_handshake_and_commands(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/{KEY}"):
        await sink.publisher(KEY)
        # Published, and the metadata at most: less than the handshake alone.
        assert sink.key(KEY).media_bytes < 3072


async def test_media_clock_keeps_real_time(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/{KEY}"):
        publication = await sink.publisher(KEY)
        await sink.until(lambda: publication.media_seconds >= 2)
        assert publication.first_media_at is not None
        # ffmpeg sends the first half second at once.
        assert 1 < time.monotonic() - publication.first_media_at < 10
        assert publication.longest_pause < 5


async def test_two_publishers_on_one_key_are_an_overlap(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/{KEY}"):
        await sink.received(KEY, SOME)
        async with publishing(source, f"{sink.url()}/{KEY}"):
            await sink.until(lambda: len(sink.key(KEY).publications) == 2)
            assert sink.key(KEY).overlaps == 1
    assert len((await sink.gone(KEY)).publications) == 2


async def test_publishers_one_after_another_are_no_overlap(sink: Sink, source: Path) -> None:
    for _ in range(2):
        async with publishing(source, f"{sink.url()}/{KEY}"):
            await sink.publisher(KEY)
        await sink.gone(KEY)
    assert len(sink.key(KEY).publications) == 2
    assert sink.key(KEY).overlaps == 0


async def test_two_keys_are_counted_apart(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/one"), publishing(source, f"{sink.url()}/two"):
        await asyncio.gather(sink.received("one", SOME), sink.received("two", SOME))
    assert sink.key("one").overlaps == sink.key("two").overlaps == 0


async def test_closed_refuses_and_keeps_live_ones_and_the_port(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/{KEY}"):
        await sink.received(KEY, SOME)
        await sink.behave(Mode.CLOSED)
        assert await refused(sink)
        await sink.received(KEY, sink.key(KEY).media_bytes + SOME)
        port = sink.port
        await sink.behave(Mode.ACCEPT)
        assert sink.port == port
        assert not await refused(sink)


async def test_hang_up_ends_the_publisher_before_the_handshake(sink: Sink, source: Path) -> None:
    await sink.behave(Mode.HANG_UP)
    async with publishing(source, f"{sink.url()}/{KEY}") as process:
        assert await process.wait() != 0
    assert sink.connections == 1
    assert not sink.key(KEY).publications


async def test_rejected_key_ends_the_publisher_and_no_other(sink: Sink, source: Path) -> None:
    await sink.behave(Mode.REJECT_KEY, KEY)
    async with publishing(source, f"{sink.url()}/{KEY}") as denied:
        assert await denied.wait() != 0
    assert sink.key(KEY).rejected == 1
    assert not sink.key(KEY).publications
    async with publishing(source, f"{sink.url()}/another"):
        await sink.received("another", SOME)


async def test_freeze_stops_reading_until_told_otherwise(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/{KEY}") as process:
        await sink.received(KEY, SOME)
        await sink.behave(Mode.FREEZE)
        frozen = sink.key(KEY).media_bytes
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await sink.received(KEY, frozen + 1)
        assert process.returncode is None
        await sink.behave(Mode.ACCEPT)
        record = await sink.received(KEY, frozen + SOME)
    assert len(record.publications) == 1
    assert record.publications[0].longest_pause >= 1


async def test_frozen_from_the_start_publishes_and_sends_first_media(sink: Sink, source: Path) -> None:
    await sink.behave(Mode.FREEZE)
    async with publishing(source, f"{sink.url()}/{KEY}"):
        publication = await sink.publisher(KEY)
        await sink.received(KEY, 1)
        first = publication.media_bytes
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await sink.received(KEY, first + 1)
        assert publication.live


async def test_reset_mode_ends_live_and_new_ones_alike(sink: Sink, source: Path) -> None:
    async with publishing(source, f"{sink.url()}/{KEY}") as process:
        await sink.received(KEY, SOME)
        await sink.behave(Mode.RESET)
        assert not sink.key(KEY).publisher
        assert await process.wait() != 0
    async with publishing(source, f"{sink.url()}/{KEY}") as again:
        assert await again.wait() != 0
    assert [one.live for one in sink.key(KEY).publications] == [False, False]


async def test_reset_reaches_the_peer_as_rst(sink: Sink) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, (sink.host, sink.port))
        await sink.until(lambda: sink.connections == 1)
        await sink.reset()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(peer, 1)


async def test_hanging_up_reaches_the_peer_as_fin(sink: Sink) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, (sink.host, sink.port))
        await sink.until(lambda: sink.connections == 1)
        await sink.hang_up()
        assert await loop.sock_recv(peer, 1) == b""


async def test_never_read_takes_the_connection_and_nothing_more(sink: Sink, source: Path) -> None:
    await sink.behave(Mode.NEVER_READ)
    async with publishing(source, f"{sink.url()}/{KEY}") as process:
        await sink.until(lambda: sink.connections == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await sink.publisher(KEY)
        assert process.returncode is None
        await sink.behave(Mode.ACCEPT)
        await sink.received(KEY, SOME)


async def test_noise_is_not_a_publisher(sink: Sink) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        peer.setblocking(False)
        await loop.sock_connect(peer, (sink.host, sink.port))
        await loop.sock_sendall(peer, b"GET / HTTP/1.1\r\n\r\n")
        assert await loop.sock_recv(peer, 1) == b""
    assert sink.snapshot()["keys"] == {}


async def test_key_cannot_misbehave_before_it_is_known(sink: Sink) -> None:
    with pytest.raises(ValueError, match="before the key is known"):
        await sink.behave(Mode.NEVER_READ, KEY)


async def test_what_everybody_is_told_holds_for_keys_told_before(sink: Sink) -> None:
    await sink.behave(Mode.FREEZE, KEY)
    await sink.behave(Mode.ACCEPT)
    assert sink.mode_for(KEY) is Mode.ACCEPT


async def test_closing_the_sink_ends_its_publishers(source: Path) -> None:
    async with Sink() as sink:
        url = f"{sink.url()}/{KEY}"
        async with publishing(source, url) as process:
            await sink.received(KEY, SOME)
            await sink.__aexit__()
            assert await process.wait() != 0
    assert not sink.key(KEY).publisher
