"""The edge to the kernel's table of processes: who one is, whether it lives, its end.

A pid alone names nobody: it is given away again once its process is gone. With
the moment of its start, and the boot that moment counts from, it names one for ever.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["ProcessId", "identify"]

_PROC: Final = Path("/proc")
#: Seconds for a process to be gone that was killed; the kernel needs milliseconds.
_KILL: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """One process, now and for ever."""

    pid: int
    #: Clock ticks from boot to its start.
    started: int
    boot: str

    def lives(self) -> bool:
        """A zombie does not: it only waits for its parent to look."""
        row = _row(self.pid)
        return row is not None and not row.dead and self._is(row)

    def end(self, *, patience: float) -> bool:
        """SIGTERM, and SIGKILL after so many seconds, to its children then, too. Whether it is gone."""
        with _handle(self) as handle:
            if handle is None:
                return True
            _signal(handle, signal.SIGTERM)
            if _gone(handle, patience):
                return True
            # Looked up while the parent lives: orphans are nobody's children.
            children = _children(self.pid)
            _signal(handle, signal.SIGKILL)
            return _gone(handle, _KILL) and all(child.end(patience=0) for child in children)

    def _is(self, row: "_Row") -> bool:
        return row.started == self.started and _boot() == self.boot


def identify(pid: int) -> ProcessId:
    """Who has this pid now. Raises ProcessLookupError where nobody has."""
    row = _row(pid)
    if row is None:
        raise ProcessLookupError(pid)
    return _named(row)


@dataclass(frozen=True, slots=True)
class _Row:
    pid: int
    dead: bool
    parent: int
    started: int


def _row(pid: int) -> _Row | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field, the name, may hold anything, parentheses and blanks too.
    fields = stat[stat.rindex(")") + 2 :].split()
    return _Row(pid, fields[0] in "ZX", int(fields[1]), int(fields[19]))


def _children(pid: int) -> list[ProcessId]:
    rows = (_row(int(entry)) for entry in os.listdir(_PROC) if entry.isdigit())
    return [_named(row) for row in rows if row is not None and row.parent == pid]


def _named(row: _Row) -> ProcessId:
    return ProcessId(pid=row.pid, started=row.started, boot=_boot())


@cache
def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


@contextmanager
def _handle(process: ProcessId) -> Iterator[int | None]:
    """A descriptor of that very process, which no other can take over; None when it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        # Looked at once the descriptor is held, else it could be of the next one.
        yield handle if process.lives() else None
    finally:
        os.close(handle)


def _signal(handle: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


def _gone(handle: int, seconds: float) -> bool:
    """Waits for the end of a process, ours or not."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
