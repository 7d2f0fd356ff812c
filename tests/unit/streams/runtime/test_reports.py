"""Which report is the latest, and what of it is worth a hint."""

import asyncio
import time
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from encoder.report import Cause, LogLine, Report, State
from services.streams.runtime.reports import Hints, Reports, last_log_lines, last_report

SESSION = uuid4()
FIRST = Report(at=100.0, attempt=1, state=State.DELIVERING)


@pytest.fixture
def hints() -> Hints:
    return Hints()


@pytest.fixture
def reports(hints: Hints) -> Reports:
    return Reports(hints)


async def hinted(hints: Hints, act: object) -> list[UUID]:
    """What a listener is told of the act."""
    assert callable(act)
    listener = hints.listen()
    act()
    await asyncio.sleep(0)
    hints.close()
    return [one async for one in listener]


async def test_new_counters_are_kept_without_a_hint(hints: Hints, reports: Reports) -> None:
    reports.put("one", SESSION, FIRST)
    later = replace(FIRST, at=101.0, acknowledged_bytes=9, bitrate_kbps=1.0, delivered_seconds=1.0)

    assert await hinted(hints, lambda: reports.put("one", SESSION, later)) == []
    assert reports.latest("one") == later


@pytest.mark.parametrize(
    "news",
    [
        {"state": State.STALLED},
        {"cause": Cause.NETWORK},
        {"attempt": 2},
        {"first_media_at": 100.5},
    ],
)
async def test_news_give_a_hint(hints: Hints, reports: Reports, news: dict[str, object]) -> None:
    reports.put("one", SESSION, FIRST)
    later = replace(FIRST, **news)  # type: ignore[arg-type]  # fields of Report

    assert await hinted(hints, lambda: reports.put("one", SESSION, later)) == [SESSION]


def test_order_written_counts_not_the_time_in_the_report(reports: Reports) -> None:
    set_back = replace(FIRST, at=40.0)

    reports.put("one", SESSION, FIRST)
    reports.put("one", SESSION, set_back)

    assert reports.latest("one") == set_back


def test_follower_that_was_overtaken_cannot_bring_back_what_is_old(reports: Reports) -> None:
    overtaking, next_one = replace(FIRST, at=130.0), replace(FIRST, at=131.0)
    reports.put("one", SESSION, FIRST)

    reports.overtake("one", SESSION, overtaking, read_at=time.monotonic())
    reports.put("one", SESSION, replace(FIRST, at=101.0))
    assert reports.latest("one") == overtaking
    reports.put("one", SESSION, overtaking)
    reports.put("one", SESSION, next_one)

    assert reports.latest("one") == next_one


def test_clock_set_back_after_an_overtaking_does_not_freeze_the_reports(reports: Reports) -> None:
    overtaking, set_back = replace(FIRST, at=130.0), replace(FIRST, at=50.0)
    reports.put("one", SESSION, FIRST)
    reports.overtake("one", SESSION, overtaking, read_at=time.monotonic())

    reports.put("one", SESSION, overtaking)
    reports.put("one", SESSION, set_back)

    assert reports.latest("one") == set_back


def test_report_that_came_during_the_reading_is_newer_than_what_was_read(reports: Reports) -> None:
    began = time.monotonic()
    reports.put("one", SESSION, replace(FIRST, at=131.0))

    reports.overtake("one", SESSION, replace(FIRST, at=130.0), read_at=began)

    assert reports.latest("one") == replace(FIRST, at=131.0)


def test_last_word_stays_the_last(reports: Reports) -> None:
    ended = replace(FIRST, at=110.0, state=State.ENDED, cause=Cause.SOURCE)

    reports.put("one", SESSION, ended)
    reports.put("one", SESSION, replace(FIRST, at=111.0))

    assert reports.latest("one") == ended


def test_age_is_infinite_without_a_report_and_counts_from_its_coming(reports: Reports) -> None:
    assert reports.age("one") == float("inf")

    reports.put("one", SESSION, FIRST)

    assert 0 <= reports.age("one") < 5
    reports.forget("one")
    assert reports.latest("one") is None


async def test_slow_listener_is_told_each_session_once(hints: Hints) -> None:
    other = uuid4()
    listener = hints.listen()

    for _ in range(100):
        hints.give(SESSION)
        hints.give(other)
    await asyncio.sleep(0)

    assert [await anext(listener), await anext(listener)] == [SESSION, other]
    hints.close()
    assert [one async for one in listener] == []


async def test_hints_come_from_any_thread(hints: Hints) -> None:
    listener = hints.listen()

    await asyncio.to_thread(hints.give, SESSION)

    assert await anext(listener) == SESSION


def test_last_report_is_found_between_log_lines_and_torn_ones() -> None:
    newest = replace(FIRST, at=105.0)
    lines = [
        FIRST.to_line(),
        newest.to_line(),
        LogLine(at=1.0, attempt=1, text="x").to_line(),
        '{"report":{"at"',
    ]

    assert last_report("\n".join(lines).encode()) == newest
    assert last_report(b"Traceback (most recent call last):\n") is None


def test_last_log_lines_are_the_newest_in_order() -> None:
    written = [LogLine(at=float(at), attempt=1, text=str(at)) for at in range(5)]
    output = "\n".join([written[0].to_line(), FIRST.to_line(), *(one.to_line() for one in written[1:])])

    assert last_log_lines(output.encode(), 2) == written[-2:]
    assert last_log_lines(output.encode(), 99) == written
    assert last_log_lines(output.encode(), 0) == []
