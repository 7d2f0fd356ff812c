"""Delivery as the encoder reports it, against what the servers themselves count."""

import asyncio
import time
from collections.abc import Callable

import av
import pytest

from cli.suite.sink import Mode, Sink
from encoder.job import Job
from encoder.report import State
from tests.support.encoder import encoder_process
from tests.support.nginx import Nginx

KEY = "canary-7f3a91"

#: What the kernels between the two programs may hold of a stream that is being read.
IN_FLIGHT = 300_000


async def test_media_is_reported_when_the_server_has_it(sink: Sink, job: Callable[..., Job]) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        first = await encoder.state(State.DELIVERING)
        publication = await sink.publisher(KEY)
        assert first.first_media_at is not None
        assert first.acknowledged_bytes > 0
        assert publication.first_media_at is not None, "reported before the server had any"
        since_boot = time.time() - time.monotonic()
        assert first.at - (since_boot + publication.first_media_at) < 0.3, "not reported at once"
        assert first.cause is None
        assert {one.state for one in encoder.reports[:-1]} <= {State.CONNECTING}


async def test_delivered_time_and_bytes_are_the_servers_own(sink: Sink, job: Callable[..., Job]) -> None:
    async with asyncio.timeout(40), encoder_process(job(sink.url())) as encoder:
        # Longer than the sample: loops are counted on.
        await encoder.report(lambda report: report.delivered_seconds >= 8)
        assert await encoder.stop() == 0
        last = encoder.reports[-1]
        record = await sink.gone(KEY)
        (publication,) = record.publications
        assert last.delivered_seconds <= publication.media_seconds + 0.1
        assert last.delivered_seconds == pytest.approx(publication.media_seconds, abs=1.5)
        # On the wire RTMP's chunk headers are added; what is in flight at the end is not.
        assert last.acknowledged_bytes == pytest.approx(record.media_bytes, rel=0.1)
        assert last.bitrate_kbps == 0.0


async def test_delivered_time_is_what_the_server_recorded(ingest: Nginx, job: Callable[..., Job]) -> None:
    async with asyncio.timeout(40), encoder_process(job(ingest.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 4)
        assert await encoder.stop() == 0
    delivered = encoder.reports[-1].delivered_seconds
    (recording,) = ingest.recordings()
    with av.open(str(recording), format="flv") as container:
        stamps = [float(one.dts * one.time_base) for one in container.demux() if one.dts is not None]
    assert delivered <= max(stamps) + 0.1
    assert delivered == pytest.approx(max(stamps), abs=1.5)


async def test_rates_are_those_of_the_media(sink: Sink, job: Callable[..., Job]) -> None:
    async with asyncio.timeout(40), encoder_process(job(sink.url())) as encoder:
        # By then the first burst has left the window.
        report = await encoder.report(lambda report: report.delivered_seconds >= 8)
        assert report.fps == pytest.approx(25, rel=0.15)
        record = sink.key(KEY)
        mean = record.media_bytes * 8 / 1000 / record.publications[0].media_seconds
        assert report.bitrate_kbps == pytest.approx(mean, rel=0.5)
        assert report.round_trip_ms > 0


async def test_a_frozen_server_is_delivered_nothing_though_ffmpeg_goes_on(
    sink: Sink, job: Callable[..., Job]
) -> None:
    limits = {"stall": 2.0, "give_up": 30.0}
    async with asyncio.timeout(40), encoder_process(job(sink.url(), limits=limits)) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        await sink.behave(Mode.FREEZE)
        stalled = await encoder.state(State.STALLED)
        taken = sink.key(KEY).media_bytes
        assert stalled.acknowledged_bytes < taken + IN_FLIGHT
        assert stalled.last_media_at is not None
        assert 2.0 <= stalled.at - stalled.last_media_at < 3.5
        later = await encoder.report(lambda report: report.at > stalled.at + 1.5)
        assert later.delivered_seconds == stalled.delivered_seconds
        assert later.bitrate_kbps < stalled.bitrate_kbps or stalled.bitrate_kbps == 0

        await sink.behave(Mode.ACCEPT)
        thawed = await encoder.state(State.DELIVERING)
        assert (thawed.attempt, thawed.cause) == (1, None), "a stall that ends is no new attempt"


@pytest.mark.parametrize("mode", [Mode.CLOSED, Mode.HANG_UP, Mode.REJECT_KEY, Mode.NEVER_READ])
async def test_a_server_that_takes_no_media_is_never_delivered_to(
    sink: Sink, job: Callable[..., Job], mode: Mode
) -> None:
    await sink.behave(mode)
    async with asyncio.timeout(30), encoder_process(job(sink.url(), limits={"connect": 1.5})) as encoder:
        await encoder.ended()
        assert State.DELIVERING not in {one.state for one in encoder.reports}
        last = encoder.reports[-1]
        assert (last.acknowledged_bytes, last.delivered_seconds, last.first_media_at) == (0, 0.0, None)
        assert sink.key(KEY).media_bytes == 0


async def test_totals_grow_over_attempts(sink: Sink, job: Callable[..., Job]) -> None:
    async with asyncio.timeout(40), encoder_process(job(sink.url())) as encoder:
        before = await encoder.report(lambda report: report.delivered_seconds >= 1.5)
        await sink.hang_up(KEY)
        again = await encoder.report(lambda report: report.attempt == 2 and report.state is State.DELIVERING)
        assert again.first_media_at == pytest.approx(before.first_media_at, abs=0.05)
        after = await encoder.report(lambda report: report.delivered_seconds >= before.delivered_seconds + 2)
        assert after.acknowledged_bytes > before.acknowledged_bytes
        assert await encoder.stop() == 0
        times = [one.delivered_seconds for one in encoder.reports]
        assert times == sorted(times)
        received = sum(one.media_seconds for one in sink.key(KEY).publications)
        assert encoder.reports[-1].delivered_seconds == pytest.approx(received, abs=2.5)
