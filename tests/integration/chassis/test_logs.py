"""The log as an operator reads it: JSON, complete, without secrets, and never in the way."""

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta

import orjson

from services.chassis.logs import _Writer
from tests.support.polling import until
from tests.support.program import running

CANARY = "c4n4-ry00-k3y0-0000-test"


async def test_no_way_into_the_log_lets_a_secret_through() -> None:
    async with running("log-secrets") as program:
        assert await program.ended() == 0
    assert CANARY not in str(program.logged)
    assert not [line for line in program.logged if "raw" in line]
    pushing, field, thing, warning, failed = program.logged
    assert pushing["message"] == "pushing to rtmp://host/app/***"
    assert field["nested"] == {"list": ["rtmp://host/app/***"]}
    assert (thing["object"], thing["count"], thing["nothing"], thing["yes"]) == ("Secret(***)", 3, None, True)
    assert "password=***" in warning["message"]
    assert "Traceback" in failed["exception"]
    assert {line["level"] for line in program.logged} == {"INFO", "WARNING", "ERROR"}
    assert {line["service"] for line in program.logged} == {"talkative"}
    assert {line["pid"] for line in program.logged} == {program.pid}
    moments = [datetime.fromisoformat(line["time"]) for line in program.logged]
    assert moments == sorted(moments)
    assert timedelta(0) <= datetime.now(UTC) - moments[-1] < timedelta(minutes=1)


def line(number: int, size: int = 10) -> tuple[float, str, dict[str, object]]:
    return (time.time(), "test", {"number": number, "padding": "x" * size})


def lines(descriptor: int) -> list[int]:
    """The numbers of all lines that a pipe holds."""
    os.set_blocking(descriptor, False)
    text = b""
    while True:
        try:
            text += os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return [orjson.loads(each)["number"] for each in text.splitlines()]


async def test_lines_arrive_in_order_and_completely() -> None:
    reading, writing = os.pipe()
    writer = _Writer(writing)
    for number in range(200):
        writer.put(line(number))
    writer.flush(5)
    assert lines(reading) == list(range(200))


async def test_a_warning_does_not_wait_for_the_next_batch() -> None:
    reading, writing = os.pipe()
    writer = _Writer(writing)
    writer.put(line(0), urgent=True)
    await until(lambda: lines(reading) == [0], within=5)


async def test_a_reader_that_stopped_reading_blocks_nobody_and_hears_later_what_it_missed() -> None:
    reading, writing = os.pipe()
    writer = _Writer(writing)
    slowest, put = 0.0, 0
    while not writer._dropped:
        before = time.monotonic()
        writer.put(line(put))
        slowest, put = max(slowest, time.monotonic() - before), put + 1
    assert slowest < 1
    before = time.monotonic()
    writer.flush(0.2)
    assert 0.1 < time.monotonic() - before < 2

    def read_on() -> tuple[int, int]:
        with os.fdopen(reading, "rb") as pipe:
            for arrived, text in enumerate(pipe):
                fields = orjson.loads(text)
                if fields["message"] == "log lines dropped":
                    return arrived, fields["count"]
        raise AssertionError("the loss was not told")

    async with asyncio.timeout(20):
        arrived, dropped = await asyncio.to_thread(read_on)
    assert arrived + dropped == put


async def test_a_closed_reader_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    writer = _Writer(writing)
    writer.put(line(0), urgent=True)
    writer.flush(2)
    writer.put(line(1))
    writer.flush(2)
