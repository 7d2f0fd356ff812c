"""Standard output, written to without ever waiting for its reader.

The control plane may be dead, and the engine with it; the stream goes on. What
cannot be written now is kept, reports only the latest, log lines only so many.
"""

import os
from collections import deque
from typing import Final

from encoder.report import LogLine, Report

KEPT: Final = 200


class Outlet:
    """A file descriptor that takes lines. Not for threads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        os.set_blocking(fd, False)
        #: What is left of a line of which a part is already written.
        self._torn = b""
        self._logs: deque[bytes] = deque(maxlen=KEPT)
        self._report = b""
        self._closed = False
        #: A line was written in part and its rest lost: the next begins a new one.
        self._broken = False

    @property
    def blocked(self) -> bool:
        """Whether something waits for the reader: then flush() when the descriptor is writable."""
        return bool(self._torn or self._logs or self._report) and not self._closed

    @property
    def fd(self) -> int:
        return self._fd

    def report(self, report: Report) -> None:
        """A snapshot; a later one replaces it if it could not be written."""
        self._report = report.to_line().encode() + b"\n"
        self.flush()

    def log(self, line: LogLine) -> None:
        self._logs.append(line.to_line().encode() + b"\n")
        self.flush()

    def flush(self) -> None:
        """Write what can be written."""
        while self.blocked:
            if not self._torn:
                self._torn = self._take()
            try:
                self._torn = self._torn[os.write(self._fd, self._torn) :]
            except BlockingIOError:
                return
            except BrokenPipeError:
                # Nobody will ever read this again.
                self._closed = True
            except OSError:
                # A full disk, perhaps: lose what is here and try again with the next line.
                self._torn, self._report, self._broken = b"", b"", True
                self._logs.clear()

    def _take(self) -> bytes:
        start, self._broken = b"\n" if self._broken else b"", False
        if self._logs:
            return start + self._logs.popleft()
        line, self._report = self._report, b""
        return start + line
