"""Logs: JSON lines on stderr, with trace ids, scrubbed, never blocking the event loop.

Lines are collected in memory and written by one thread, ten times a second or
at once after a warning: a terminal or pipe that does not read must not stop
the service. What it does not take within its bound is dropped and counted.
"""

import atexit
import logging
import os
import threading
from collections import deque
from datetime import UTC, datetime
from typing import Any

import orjson
from opentelemetry import trace

from services.chassis.redaction import scrub

__all__ = ["configure", "event", "flush"]

_FLUSH_EVERY = 0.1
_MOST_BYTES = 8 * 1024 * 1024
_STDERR = 2


class _Writer:
    """Writes lines to a file descriptor from a thread of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.reset()

    def reset(self) -> None:
        """Nothing waiting, nobody writing."""
        self._lines: deque[bytes] = deque()
        self._waiting = 0
        self._dropped = 0
        self._urgent = threading.Event()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None

    def write(self, line: bytes, *, urgent: bool = False) -> None:
        if self._thread is None:
            self._start()
        if self._waiting > _MOST_BYTES:
            self._dropped += 1
            return
        self._waiting += len(line)
        self._lines.append(line)
        if urgent:
            self._urgent.set()

    def flush(self) -> None:
        """Returns when what was waiting has been written."""
        with self._writing:
            taken = []
            while self._lines:
                taken.append(self._lines.popleft())
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                taken.append(_line("WARNING", "log lines dropped", {"count": dropped}))
            text = b"".join(taken)
            self._waiting = max(0, self._waiting - len(text))
            while text:
                text = text[os.write(self._descriptor, text) :]

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._urgent.wait(_FLUSH_EVERY)
            self._urgent.clear()
            if self._lines:
                self.flush()


_writer = _Writer(_STDERR)


def configure(service: str, *, level: str = "INFO") -> None:
    """Routes everything logged in this process, by us and by libraries, to JSON lines on stderr."""
    _static["service"] = service
    root = logging.getLogger()
    root.handlers = [_JsonHandler()]
    root.setLevel(level)
    logging.captureWarnings(True)


def event(message: str, **fields: Any) -> None:
    """One INFO line from fields that need no scrubbing; the access log's way, a third of logging's cost."""
    _writer.write(_line("INFO", message, fields))


def flush() -> None:
    """Writes what is waiting; the last act of a process."""
    _writer.flush()


_static: dict[str, Any] = {"service": "", "pid": os.getpid()}


def _line(level: str, message: str, fields: dict[str, Any]) -> bytes:
    line = {"time": datetime.now(UTC), "level": level, "message": message, **_static, **fields}
    return orjson.dumps(line, default=repr, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)


# What every record has: the rest came by `extra`.
_ORDINARY = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {
    "message",
    "asctime",
    "taskName",
}


class _JsonHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        fields = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        fields["logger"] = record.name
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields.setdefault("trace_id", format(span.trace_id, "032x"))
        if record.exc_info:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        line = _line(record.levelname, record.getMessage(), fields)
        _writer.write(scrub(line.decode()).encode(), urgent=record.levelno >= logging.WARNING)


def _after_fork() -> None:
    # A worker has a pid of its own, and not its parent's writing thread: fork leaves threads
    # behind, and their locks as they were.
    _static["pid"] = os.getpid()
    _writer.reset()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(flush)
