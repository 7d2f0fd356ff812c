"""How the program begins, ends, and lives on without a control plane."""

import asyncio
import contextlib
import fcntl
import itertools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.suite.sink import Mode, Sink
from encoder.exits import ExitCode
from encoder.job import Job
from encoder.report import Cause, Report, State, parse
from encoder.tcp import Watch
from tests.support.encoder import EncoderProcess, alive, encoder_process
from tests.support.nginx import Nginx

KEY = "canary-7f3a91"
F_SETPIPE_SZ = 1031

MakeJob = Callable[..., Job]


async def gone(pid: int) -> None:
    """Once that process has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    try:
        await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


async def delivering(encoder: EncoderProcess, attempt: int) -> Report:
    """The next report of this attempt at work."""
    return await encoder.report(lambda report: report.attempt == attempt and report.state is State.DELIVERING)


async def test_a_stop_is_clean_and_quick(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        child = encoder.ffmpeg
        begun = time.monotonic()
        assert await encoder.stop() == ExitCode.STOPPED
        assert time.monotonic() - begun < 2.5
        assert child is not None
        assert not alive(child)
        assert sink.key(KEY).publisher is None
        last = encoder.reports[-1]
        assert (last.state, last.cause, last.detail) == (State.ENDED, None, "")


async def test_an_interrupt_is_a_stop(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.state(State.DELIVERING)
        encoder.process.send_signal(signal.SIGINT)
        assert await encoder.ended() == ExitCode.STOPPED


async def test_a_hang_up_of_the_terminal_is_none(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.state(State.DELIVERING)
        encoder.process.send_signal(signal.SIGHUP)
        report = await encoder.report(lambda report: report.delivered_seconds >= 2)
        assert report.attempt == 1


async def blocked(pid: int) -> None:
    """Once this ffmpeg's socket takes nothing more from it."""
    with contextlib.closing(Watch(pid)) as watch:
        written, since = -1, time.monotonic()
        while time.monotonic() - since < 1:
            connection = watch.read()
            assert connection is not None
            if connection.written != written:
                written, since = connection.written, time.monotonic()
            await asyncio.sleep(0.05)


async def test_a_stalled_stream_stops_without_burning_its_grace(
    sink: Sink, job: MakeJob, heavy_sample: Path
) -> None:
    limits = {"give_up": 60.0, "stop_first": 30.0, "stop_second": 30.0}
    order = job(sink.url(), source=str(heavy_sample), limits=limits)
    async with asyncio.timeout(40), encoder_process(order) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        await sink.behave(Mode.FREEZE)
        await encoder.state(State.STALLED)
        child = encoder.ffmpeg
        assert child is not None
        # Not before does it ignore the first SIGTERM.
        await blocked(child)
        begun = time.monotonic()
        assert await encoder.stop() == ExitCode.STOPPED
        # Far from the 30 s that an encoder that still delivers would be given.
        assert time.monotonic() - begun < 15
        assert encoder.reports[-1].cause is None


async def test_a_deaf_ffmpeg_is_killed(sink: Sink, job: MakeJob, tmp_path: Path) -> None:
    deaf = tmp_path / "ffmpeg"
    deaf.write_text("#!/bin/sh\ntrap '' TERM\necho deaf >&2\nwhile :; do sleep 0.1; done\n")
    deaf.chmod(0o755)
    limits = {"stop_first": 0.2, "stop_second": 0.2, "connect": 60.0}
    order = job(sink.url(), limits=limits)
    async with asyncio.timeout(20), encoder_process(order, ffmpeg_path=str(deaf)) as encoder:
        await encoder.logged("deaf")
        child = encoder.ffmpeg
        assert child is not None
        assert await encoder.stop() == ExitCode.STOPPED
        assert not alive(child)


async def test_a_stop_while_connecting(sink: Sink, job: MakeJob) -> None:
    await sink.behave(Mode.NEVER_READ)
    limits = {"connect": 60.0, "give_up": 60.0}
    async with asyncio.timeout(20), encoder_process(job(sink.url(), limits=limits)) as encoder:
        await sink.until(lambda: sink.connections == 1)
        assert await encoder.stop() == ExitCode.STOPPED


async def test_a_stop_between_two_attempts(sink: Sink, job: MakeJob) -> None:
    await sink.behave(Mode.CLOSED)
    limits = {"backoff_first": 60.0, "backoff_max": 60.0}
    async with asyncio.timeout(20), encoder_process(job(sink.url(), limits=limits)) as encoder:
        waiting = await encoder.state(State.BACKOFF)
        assert waiting.retry_at is not None
        assert 40 < waiting.retry_at - waiting.at < 61
        assert await encoder.stop() == ExitCode.STOPPED
        assert encoder.reports[-1].state is State.ENDED


async def test_a_stop_at_the_very_start_leaves_nothing(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.state(State.CONNECTING)
        assert await encoder.stop() == ExitCode.STOPPED
        assert sink.key(KEY).publisher is None


async def test_ffmpeg_does_not_outlive_a_killed_supervisor(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.state(State.DELIVERING)
        child = encoder.ffmpeg
        assert child is not None
        os.kill(encoder.pid, signal.SIGKILL)
        begun = time.monotonic()
        await gone(child)
        await sink.gone(KEY)
        assert time.monotonic() - begun < 5


async def test_a_killed_supervisor_takes_a_stalled_ffmpeg_along(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(30), encoder_process(job(sink.url(), limits={"give_up": 60.0})) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 1)
        await sink.behave(Mode.FREEZE)
        await encoder.state(State.STALLED)
        child = encoder.ffmpeg
        assert child is not None
        os.kill(encoder.pid, signal.SIGKILL)
        await gone(child)


async def test_a_new_attempt_begins_before_the_clock_wraps(sink: Sink, job: MakeJob) -> None:
    limits = {"roll": 2.0, "backoff_first": 30.0, "backoff_max": 30.0}
    async with asyncio.timeout(30), encoder_process(job(sink.url(), limits=limits)) as encoder:
        rolled = await delivering(encoder, 3)
        assert rolled.delivered_seconds > 2
        assert {one.cause for one in encoder.reports} == {None}
        assert State.BACKOFF not in {one.state for one in encoder.reports}
        assert sink.key(KEY).overlaps == 0
        first, second = sink.key(KEY).publications[:2]
        assert first.ended_at is not None
        assert second.began_at - first.ended_at < 1.5, "the gap of a planned roll"


async def test_the_stream_outlives_a_restart_of_the_server(sink: Sink, job: MakeJob) -> None:
    limits = {"barren_attempts": 100}
    async with asyncio.timeout(30), encoder_process(job(sink.url(), limits=limits)) as encoder:
        await encoder.state(State.DELIVERING)
        await sink.behave(Mode.CLOSED)
        await sink.reset()
        refused = await encoder.report(lambda report: report.cause is Cause.REMOTE_REFUSED)
        assert refused.attempt > 1
        await sink.behave(Mode.ACCEPT)
        assert (await encoder.state(State.DELIVERING)).attempt > 2


async def test_nobody_reading_stops_nothing(sink: Sink, job: MakeJob) -> None:
    reader, writer = os.pipe()
    # One page holds some eight reports: eight seconds until it is full.
    fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
    async with asyncio.timeout(60), encoder_process(job(sink.url()), stdout=writer) as encoder:
        os.close(writer)
        publication = await sink.publisher(KEY)
        await sink.until(lambda: publication.media_seconds >= 14)
        assert publication.longest_pause < 2
        # Nobody to tell it to, and it is supervised all the same.
        await sink.hang_up(KEY)
        await sink.until(lambda: sum(one.media_seconds > 1 for one in sink.key(KEY).publications) == 2)
        # The control plane is back: it reads what is there and then the latest.
        os.set_blocking(reader, True)
        reports: list[Report] = []
        with os.fdopen(reader, "rb") as lines:
            while not reports or reports[-1].delivered_seconds < 13:
                said = parse(await asyncio.to_thread(lines.readline))
                assert said is not None, "a torn line"
                if isinstance(said, Report):
                    reports.append(said)
        gaps = [b.at - a.at for a, b in itertools.pairwise(reports)]
        assert max(gaps) > 2, "nothing was ever dropped: the test proves nothing"
        assert await encoder.stop() == ExitCode.STOPPED


async def test_a_reader_that_is_gone_stops_nothing(sink: Sink, job: MakeJob) -> None:
    reader, writer = os.pipe()
    async with asyncio.timeout(30), encoder_process(job(sink.url()), stdout=writer) as encoder:
        os.close(writer)
        os.close(reader)
        publication = await sink.publisher(KEY)
        await sink.until(lambda: publication.media_seconds >= 3)
        assert await encoder.stop() == ExitCode.STOPPED


async def test_a_heartbeat_a_second(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 4)
        times = [one.at for one in encoder.reports if one.state is State.DELIVERING]
        gaps = [b - a for a, b in itertools.pairwise(times)]
        assert all(0.9 < gap < 1.5 for gap in gaps), gaps


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("canary", ExitCode.INVALID_JOB),
        ('{"version": 1, "stream_key": "canary"}', ExitCode.INVALID_JOB),
        (None, ExitCode.NO_JOB),
    ],
)
async def test_no_job_no_stream(text: str | None, code: ExitCode) -> None:
    async with asyncio.timeout(10), encoder_process(text) as encoder:
        assert await encoder.ended() == code
        assert encoder.reports == []
        assert encoder.text.startswith("encoder: ")
        assert "canary" not in encoder.text


async def test_the_job_may_come_in_a_file(sink: Sink, job: MakeJob, tmp_path: Path) -> None:
    secret = tmp_path / "job"
    secret.write_text(job(sink.url()).to_json())
    async with asyncio.timeout(20), encoder_process(None, options=["--job", str(secret)]) as encoder:
        await encoder.state(State.DELIVERING)
        assert await encoder.stop() == ExitCode.STOPPED


async def test_two_attempts_never_overlap(ingest: Nginx, job: MakeJob) -> None:
    async with asyncio.timeout(30), encoder_process(job(ingest.url())) as encoder:
        for attempt in (1, 2, 3):
            await delivering(encoder, attempt)
            await asyncio.to_thread(ingest.drop_publisher, KEY)
        await delivering(encoder, 4)
    assert Cause.KEY_REJECTED not in {one.cause for one in encoder.reports}
    assert len(ingest.publications(KEY)) == 4


async def test_an_attempt_is_one_ffmpeg(sink: Sink, job: MakeJob, tmp_path: Path) -> None:
    # The first is begun before the supervisor is there: it must be the one it then watches.
    starts = tmp_path / "starts"
    short = tmp_path / "ffmpeg"
    short.write_text(f"#!/bin/sh\necho $$ >> {starts}\nexit 1\n")
    short.chmod(0o755)
    order = job(sink.url(), limits={"barren_attempts": 3})
    async with asyncio.timeout(20), encoder_process(order, ffmpeg_path=str(short)) as encoder:
        assert await encoder.ended() == ExitCode.GAVE_UP
    assert encoder.reports[-1].attempt == 3
    assert len(starts.read_text().split()) == 3
