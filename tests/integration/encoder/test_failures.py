"""Each fault, injected for real, and the name the encoder gives it."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.suite.sink import Mode, Sink
from encoder.exits import ExitCode
from encoder.job import Job
from encoder.report import Cause, Report, State
from tests.support.encoder import EncoderProcess, encoder_process
from tests.support.network import in_own_network
from tests.support.nginx import Nginx
from tests.support.publisher import publishing

KEY = "canary-7f3a91"
MakeJob = Callable[..., Job]


async def last_report(job: Job) -> Report:
    """Of an encoder that gave up."""
    # Long before ffmpeg's own timeout would end one attempt, let alone two.
    async with asyncio.timeout(20), encoder_process(job) as encoder:
        assert await encoder.ended() == ExitCode.GAVE_UP
        last = encoder.reports[-1]
        assert last.state is State.ENDED
        assert last.attempt == 2
        assert last.detail.endswith(".")
        return last


@pytest.mark.parametrize(
    ("mode", "cause"),
    [
        (Mode.CLOSED, Cause.REMOTE_REFUSED),
        (Mode.HANG_UP, Cause.REMOTE_REFUSED),
        (Mode.REJECT_KEY, Cause.KEY_REJECTED),
        (Mode.NEVER_READ, Cause.STALLED),
    ],
)
async def test_a_server_that_takes_no_stream(sink: Sink, job: MakeJob, mode: Mode, cause: Cause) -> None:
    await sink.behave(mode)
    assert (await last_report(job(sink.url(), limits={"connect": 1.5}))).cause is cause


async def test_a_key_that_nginx_denies(ingest: Nginx, job: MakeJob) -> None:
    ingest.deny(KEY)
    last = await last_report(job(ingest.url()))
    assert last.cause is Cause.KEY_REJECTED
    assert "rejected the stream key" in last.detail


async def test_a_key_someone_else_publishes_on(ingest: Nginx, job: MakeJob, sample: Path) -> None:
    async with publishing(sample, f"{ingest.url()}/{KEY}"):
        await asyncio.to_thread(ingest.until, lambda server: server.publishers(KEY) == 1)
        last = await last_report(job(ingest.url()))
    assert last.cause is Cause.KEY_REJECTED
    assert "already publishing" in last.detail


async def test_an_application_that_is_not_there(ingest: Nginx, job: MakeJob) -> None:
    last = await last_report(job(ingest.url().replace("/live", "/nothing")))
    assert last.cause is Cause.REMOTE_REFUSED
    assert "application" in last.detail


async def test_a_name_that_does_not_resolve(job: MakeJob) -> None:
    last = await last_report(job("rtmp://no-such-host.invalid/live"))
    assert last.cause is Cause.NETWORK
    assert "name" in last.detail


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile://{sample}\n#EXT-X-ENDLIST\n"
CONCAT = "ffconcat version 1.0\nfile sample.mp4\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "not found"),
        (b"", "not an MP4"),
        (b"no video at all", "not an MP4"),
        (PLAYLIST, "not an MP4"),
        (CONCAT, "not an MP4"),
    ],
    ids=["missing", "empty", "text", "HLS playlist", "ffconcat"],
)
async def test_a_source_that_is_no_video(
    sink: Sink, job: MakeJob, sample: Path, tmp_path: Path, content: bytes | str | None, told: str
) -> None:
    source = tmp_path / "media.mp4"
    (tmp_path / "sample.mp4").symlink_to(sample)
    if isinstance(content, str):
        source.write_text(content.format(sample=sample))
    elif content is not None:
        source.write_bytes(content)
    last = await last_report(job(sink.url(), source=str(source)))
    assert last.cause is Cause.SOURCE
    assert told in last.detail
    assert sink.connections == 0


async def test_a_source_that_ends_though_it_should_repeat(sink: Sink, job: MakeJob, tmp_path: Path) -> None:
    ended = tmp_path / "ffmpeg"
    ended.write_text("#!/bin/sh\nexit 0\n")
    ended.chmod(0o755)
    async with asyncio.timeout(20), encoder_process(job(sink.url()), ffmpeg_path=str(ended)) as encoder:
        assert await encoder.ended() == ExitCode.GAVE_UP
        assert encoder.reports[-1].cause is Cause.SOURCE
        assert "repeat" in encoder.reports[-1].detail


async def failed_after_delivery(encoder: EncoderProcess) -> Report:
    """The report of a first attempt that failed."""
    return await encoder.report(lambda report: report.state is State.BACKOFF)


async def test_a_server_that_resets_the_connection(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        await sink.reset(KEY)
        report = await failed_after_delivery(encoder)
        assert report.cause is Cause.NETWORK
        assert report.retry_at is not None
        again = await encoder.state(State.DELIVERING)
        assert (again.attempt, again.cause) == (2, None)


async def test_a_publisher_that_nginx_drops(ingest: Nginx, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(ingest.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        await asyncio.to_thread(ingest.drop_publisher, KEY)
        assert (await failed_after_delivery(encoder)).cause is Cause.NETWORK
        assert (await encoder.state(State.DELIVERING)).attempt == 2


async def test_a_frozen_server_is_slow_until_it_is_given_up(ingest: Nginx, job: MakeJob) -> None:
    async with asyncio.timeout(40), encoder_process(job(ingest.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        ingest.freeze()
        stalled = await encoder.state(State.STALLED)
        assert stalled.cause is Cause.REMOTE_SLOW
        given_up = await failed_after_delivery(encoder)
        assert given_up.cause is Cause.REMOTE_SLOW
        assert given_up.last_media_at is not None
        # A blocked ffmpeg ignores its first SIGTERM; no grace is lost on it.
        assert 4.0 <= given_up.at - given_up.last_media_at < 6.0
        ingest.thaw()
        again = await encoder.state(State.DELIVERING)
        assert again.attempt > 1


async def test_a_starved_ffmpeg(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(30), encoder_process(job(sink.url(), limits={"give_up": 3.0})) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        child = encoder.ffmpeg
        assert child is not None
        os.kill(child, signal.SIGSTOP)
        assert (await encoder.state(State.STALLED)).cause is Cause.CPU
        # Stopped, it can take no SIGTERM: SIGKILL ends it, and the stream goes on.
        assert (await encoder.state(State.DELIVERING)).attempt == 2
        assert sink.key(KEY).overlaps == 0


async def test_a_killed_ffmpeg(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.state(State.DELIVERING)
        child = encoder.ffmpeg
        assert child is not None
        os.kill(child, signal.SIGKILL)
        assert (await failed_after_delivery(encoder)).cause is Cause.CPU
        assert (await encoder.state(State.DELIVERING)).attempt == 2


@in_own_network
async def test_a_network_that_loses_everything(sample: Path, job: MakeJob) -> None:
    async with Sink() as sink, asyncio.timeout(40), encoder_process(job(sink.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        cut = await asyncio.create_subprocess_exec("ip", "link", "set", "lo", "down")
        assert await cut.wait() == 0
        stalled = await encoder.state(State.STALLED)
        assert stalled.cause is Cause.NETWORK
        assert "acknowledgements" in stalled.detail
        await failed_after_delivery(encoder)
        healed = await asyncio.create_subprocess_exec("ip", "link", "set", "lo", "up")
        assert await healed.wait() == 0
        assert (await encoder.state(State.DELIVERING)).attempt > 1


@in_own_network
async def test_a_server_without_a_route(job: MakeJob) -> None:
    last = await last_report(job("rtmp://192.0.2.1/live"))
    assert last.cause is Cause.NETWORK
    assert "could not be reached" in last.detail
