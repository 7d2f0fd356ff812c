"""The stream key is in ffmpeg's argv and nowhere else."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.suite.sink import Mode, Sink
from encoder.job import Job
from encoder.report import State
from tests.support.encoder import encoder_process
from tests.support.nginx import Nginx

KEY = "canary-7f3a91"
MakeJob = Callable[..., Job]


def proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode("utf-8", "replace")


async def test_the_key_is_in_ffmpegs_argv_alone(sink: Sink, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(sink.url())) as encoder:
        await encoder.state(State.DELIVERING)
        child = encoder.ffmpeg
        assert child is not None
        assert proc(child, "cmdline").split("\0").count(KEY) == 1, "the canary is not where it must be"
        assert proc(child, "environ") == ""
        for name in ("cmdline", "environ", "comm"):
            assert KEY not in proc(encoder.pid, name)
        assert await encoder.stop() == 0
    assert KEY not in encoder.text
    assert encoder.text, "nothing was written: the test proves nothing"


@pytest.mark.parametrize("mode", [Mode.CLOSED, Mode.HANG_UP, Mode.REJECT_KEY, Mode.RESET, Mode.NEVER_READ])
async def test_no_failure_tells_the_key(sink: Sink, job: MakeJob, mode: Mode) -> None:
    await sink.behave(mode)
    limits = {"connect": 1.0, "barren_attempts": 1}
    async with asyncio.timeout(20), encoder_process(job(sink.url(), limits=limits)) as encoder:
        await encoder.report(lambda report: report.cause is not None)
        await encoder.stop()
    assert KEY not in encoder.text


async def test_no_denial_tells_the_key(ingest: Nginx, job: MakeJob) -> None:
    ingest.deny(KEY)
    order = job(ingest.url(), limits={"barren_attempts": 1})
    async with asyncio.timeout(20), encoder_process(order) as encoder:
        await encoder.ended()
    assert encoder.logs
    assert KEY not in encoder.text


async def test_an_ffmpeg_that_shouts_the_key_is_scrubbed_and_dammed(
    sink: Sink, job: MakeJob, tmp_path: Path
) -> None:
    loud = tmp_path / "ffmpeg"
    loud.write_text(
        '#!/bin/sh\ni=0\nwhile [ $i -lt 20000 ]; do echo "[error] $*" >&2; i=$((i+1)); done\nexit 1\n'
    )
    loud.chmod(0o755)
    order = job(sink.url(), limits={"barren_attempts": 1})
    async with asyncio.timeout(20), encoder_process(order, ffmpeg_path=str(loud)) as encoder:
        await encoder.ended()
    assert "[key]" in encoder.text
    assert KEY not in encoder.text
    assert 0 < len(encoder.logs) < 200
