import fcntl
import os
from collections.abc import Iterator

import pytest

from encoder.outlet import KEPT, Outlet
from encoder.report import LogLine, Report, State, parse

PAGE = 4096
F_SETPIPE_SZ = 1031


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, F_SETPIPE_SZ, PAGE)
    os.set_blocking(reader, False)
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def report(attempt: int) -> Report:
    return Report(at=0.0, attempt=attempt, state=State.DELIVERING)


def log(text: str) -> LogLine:
    return LogLine(at=0.0, attempt=1, text=text)


def lines(reader: int) -> list[Report | LogLine | None]:
    text = b""
    while True:
        try:
            data = os.read(reader, 65536)
        except BlockingIOError:
            break
        if not data:
            break
        text += data
    return [parse(line) for line in text.splitlines()]


def test_lines_come_in_order(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1])
    outlet.report(report(1))
    outlet.log(log("one"))
    outlet.report(report(2))
    assert lines(pipe[0]) == [report(1), log("one"), report(2)]
    assert not outlet.blocked


def test_nobody_reading_blocks_nothing_and_the_latest_report_survives(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1])
    for attempt in range(1, 1000):
        outlet.report(report(attempt))
    assert outlet.blocked
    read = lines(pipe[0])
    while outlet.blocked:
        outlet.flush()
        read += lines(pipe[0])
    assert None not in read, "a torn line"
    assert len(read) < 50
    assert read[-1] == report(999)


def test_log_lines_nobody_reads_are_bounded(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1])
    for number in range(10_000):
        outlet.log(log(str(number)))
    read = lines(pipe[0])
    while outlet.blocked:
        outlet.flush()
        read += lines(pipe[0])
    assert read[-1] == log("9999")
    assert len(read) < KEPT + 100


def test_a_reader_that_is_gone_is_forgotten(pipe: tuple[int, int]) -> None:
    outlet = Outlet(pipe[1])
    os.close(pipe[0])
    outlet.report(report(1))
    outlet.log(log("x"))
    assert not outlet.blocked


def test_a_full_disk_costs_lines_and_not_the_rest() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    outlet = Outlet(full)
    outlet.report(report(1))
    assert not outlet.blocked
    reader, writer = os.pipe()
    os.dup2(writer, full)
    outlet.report(report(2))
    os.close(full)
    os.close(writer)
    with os.fdopen(reader) as lines_after:
        assert [parse(line) for line in lines_after if line.strip()] == [report(2)]
