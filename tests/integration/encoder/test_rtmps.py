import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.suite.sink import Mode, Sink
from encoder.exits import ExitCode
from encoder.job import Job
from encoder.report import Cause, State
from tests.support.encoder import encoder_process
from tests.support.tls import Authority, tls_front

KEY = "canary-7f3a91"
MakeJob = Callable[..., Job]


@dataclass(frozen=True, slots=True)
class Front:
    url: str
    #: What the encoder is told to trust.
    options: tuple[str, str]


@pytest.fixture
async def front(sink: Sink, tmp_path: Path) -> AsyncIterator[Front]:
    authority = Authority(tmp_path)
    async with tls_front(sink.port, authority.context("localhost")) as port:
        yield Front(f"rtmps://localhost:{port}/live", ("--ca-file", str(authority.file)))


async def test_media_is_delivered_over_tls(sink: Sink, front: Front, job: MakeJob) -> None:
    async with asyncio.timeout(20), encoder_process(job(front.url), options=front.options) as encoder:
        await encoder.report(lambda report: report.delivered_seconds >= 2)
        assert await encoder.stop() == ExitCode.STOPPED
        assert sink.key(KEY).publications[0].media_seconds == pytest.approx(
            encoder.reports[-1].delivered_seconds, abs=1.5
        )


async def test_a_key_rejected_over_tls_was_no_delivery(sink: Sink, front: Front, job: MakeJob) -> None:
    await sink.behave(Mode.REJECT_KEY)
    async with asyncio.timeout(20), encoder_process(job(front.url), options=front.options) as encoder:
        assert await encoder.ended() == ExitCode.GAVE_UP
        last = encoder.reports[-1]
        assert (last.cause, last.acknowledged_bytes) == (Cause.KEY_REJECTED, 0)
        assert State.DELIVERING not in {one.state for one in encoder.reports}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_server_nobody_vouches_for_is_not_given_the_key(
    sink: Sink, front: Front, job: MakeJob, host: str
) -> None:
    # Of an authority not trusted here, or of another name than the one asked for.
    options = () if host == "localhost" else front.options
    order = job(front.url.replace("localhost", host))
    async with asyncio.timeout(20), encoder_process(order, options=options) as encoder:
        assert await encoder.ended() == ExitCode.GAVE_UP
        assert encoder.reports[-1].cause is Cause.REMOTE_REFUSED
        assert "certificate" in encoder.reports[-1].detail
    assert sink.snapshot()["keys"] == {}


async def test_a_server_that_speaks_no_tls(sink: Sink, job: MakeJob) -> None:
    url = sink.url().replace("rtmp:", "rtmps:")
    async with asyncio.timeout(20), encoder_process(job(url, limits={"connect": 2.0})) as encoder:
        assert await encoder.ended() == ExitCode.GAVE_UP
        assert encoder.reports[-1].cause in (Cause.REMOTE_REFUSED, Cause.STALLED)
        assert encoder.reports[-1].acknowledged_bytes == 0
