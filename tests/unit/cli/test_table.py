"""The sessions as lines, where there is no terminal."""

import io
from dataclasses import replace
from uuid import uuid4

import pytest
from rich.console import Console

from cli.suite.demo import Row
from cli.suite.table import board


@pytest.fixture
def row() -> Row:
    return Row(
        session_id=uuid4(),
        status="running",
        cause="",
        detail="",
        delivered_seconds=1.0,
        acknowledged_bytes=250_000,
        bitrate_kbps=1900.4,
        attempts=1,
    )


def lines(*shown: Row) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=False, width=40)
    with board(console) as lines:
        for row in shown:
            lines.show([row])
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_line_has_every_column(row: Row) -> None:
    [line] = lines(row)
    assert line == f"session {str(row.session_id)[:8]} running: 1.0 s delivered, 1900 kbit/s, attempt 1"


def test_unchanged_session_is_not_repeated(row: Row) -> None:
    assert len(lines(row, row, replace(row, delivered_seconds=3.0))) == 1


def test_five_seconds_more_are_a_line(row: Row) -> None:
    assert len(lines(row, replace(row, delivered_seconds=6.0))) == 2


def test_change_of_status_tells_its_cause(row: Row) -> None:
    broken = replace(row, status="starting", cause="network", detail="[the peer] went away")
    assert "starting (network: [the peer] went away)" in lines(row, broken)[1]
