"""What is going on, on a terminal as a table that lives, elsewhere as lines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cli.suite.demo import Row

__all__ = ["Board", "board", "say"]


class Board(Protocol):
    """Shows the latest state; called at every look."""

    def show(self, rows: Sequence[Row]) -> None: ...


@contextmanager
def board(console: Console) -> Iterator[Board]:
    if not console.is_terminal:
        yield _Lines(console)
        return
    # The alternate screen would take the calls above away with it.
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        yield _Table(live)


def say(console: Console, text: str) -> None:
    """One line, however long, just as it is: it may be meant for copying."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class _Table:
    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, rows: Sequence[Row]) -> None:
        table = Table("session", "status", "cause", box=None, pad_edge=False)
        for name in ("delivered s", "kbit/s", "attempts"):
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*_cells(row))
        self._live.update(table)


class _Lines:
    """A line per session when its state changes, and every few seconds of media."""

    STEP = 5.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[object, Row] = {}

    def show(self, rows: Sequence[Row]) -> None:
        for row in rows:
            before = self._said.get(row.session_id)
            if before is None or _state(before) != _state(row) or self._moved(before, row):
                self._said[row.session_id] = row
                say(self._console, _line(row))

    def _moved(self, before: Row, row: Row) -> bool:
        return row.delivered_seconds - before.delivered_seconds >= self.STEP


def _state(row: Row) -> tuple[object, ...]:
    return row.status, row.cause, row.attempts


def _cells(row: Row) -> tuple[str, ...]:
    return (
        str(row.session_id)[:8],
        row.status,
        f"{row.cause}: {row.detail}" if row.cause else "",
        f"{row.delivered_seconds:.1f}",
        f"{row.bitrate_kbps:.0f}",
        str(row.attempts),
    )


def _line(row: Row) -> str:
    session, status, cause, delivered, rate, attempts = _cells(row)
    because = f" ({cause})" if cause else ""
    return f"session {session} {status}{because}: {delivered} s delivered, {rate} kbit/s, attempt {attempts}"
