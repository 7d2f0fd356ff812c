"""One ffmpeg process: born, listened to, ended; never left behind."""

import fcntl
import os
import select
import signal
from collections.abc import Callable
from typing import Final, NoReturn

from encoder.exits import NOT_STARTED

#: Linux's F_SETSIG; Python names it only from 3.13 on.
F_SETSIG: Final = 10


class Leash:
    """Kills ffmpeg when this process is gone, however it went.

    A pipe whose only writer is this process: when that dies, the kernel sends
    the reader's owner the signal asked for, here SIGKILL. Unlike PR_SET_PDEATHSIG
    this needs no ctypes (3 ms, 1 MB) and does not hang on the thread that forked.
    Two ffmpegs on one stream key are what it prevents.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)

    def bind(self) -> None:
        """For the forked child: die with the parent, even one already dead."""
        os.close(self._writer)
        fcntl.fcntl(self._reader, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self._reader, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(self._reader, fcntl.F_SETFL, os.O_ASYNC)
        # The arming lives as long as somebody holds the reader: ffmpeg does.
        os.set_inheritable(self._reader, True)
        if select.select([self._reader], [], [], 0)[0]:
            os._exit(NOT_STARTED)

    def close(self) -> None:
        """The reader first: without one left, closing the writer kills nobody."""
        os.close(self._reader)
        os.close(self._writer)


class Child:
    """A running ffmpeg. Its pipes are read through `pipes`; both end with it."""

    def __init__(self, arguments: Callable[[int], list[str]]) -> None:
        """`arguments` makes argv from the number of the progress pipe. Raises OSError."""
        self.exit_code: int | None = None
        self._leash = Leash()
        self.progress, progress = _pipe()
        self.output, output = _pipe()
        argv = arguments(progress)
        try:
            self.pid = os.fork()
        except OSError:
            self.close()
            raise
        else:
            if self.pid == 0:
                self._become(argv, progress, output)
        finally:
            os.close(progress)
            os.close(output)

    def _become(self, argv: list[str], progress: int, output: int) -> NoReturn:
        """In the forked child: turn into ffmpeg. By hand, because importing subprocess takes 9 ms."""
        try:
            # A signal meant for this child must not be written into the parent's pipe.
            signal.set_wakeup_fd(-1)
            # Its own session: a terminal's Ctrl-C is the supervisor's to pass on.
            os.setsid()
            self._leash.bind()
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)
            os.dup2(nowhere, 1)
            os.dup2(output, 2)
            os.set_inheritable(progress, True)
            # An argument list, no shell and an empty environment are the point.
            os.execve(argv[0], argv, {})  # noqa: S606
        finally:
            # Whatever went wrong, a second supervisor must not live on.
            os._exit(NOT_STARTED)

    @property
    def running(self) -> bool:
        """Collects the exit code once there is one; negative for a signal."""
        if self.exit_code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
        return self.exit_code is None

    def signal(self, number: signal.Signals) -> None:
        """To a running child; its number cannot be another's before `running` collects it."""
        if self.running:
            os.kill(self.pid, number)

    def threads(self) -> set[str]:
        """Scheduler states of its threads: R(unning), S(leeping), D(isk), T (stopped) …"""
        folder = f"/proc/{self.pid}/task"
        states = set()
        try:
            for name in os.listdir(folder):
                with open(f"{folder}/{name}/stat", encoding="utf-8", errors="replace") as stat:
                    # The second field is the program's name in brackets, and may hold anything.
                    states.add(stat.read().rpartition(")")[2].split()[0])
        except OSError:
            # It ended while we looked.
            return states
        return states

    def close(self) -> None:
        """After its end. Whatever still stands in the pipes is lost."""
        self._leash.close()
        os.close(self.progress)
        os.close(self.output)


def _pipe() -> tuple[int, int]:
    """Of the two ends only ours must not block: ffmpeg would lose what it may not wait to write."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reader, False)
    return reader, writer


class Escalation:
    """SIGTERM, a second one, SIGKILL. Moments are monotonic seconds."""

    def __init__(self, now: float, *, first: float, second: float) -> None:
        # A blocked ffmpeg ignores the first SIGTERM and goes at the second, measured.
        self._due = [
            (now, signal.SIGTERM),
            (now + first, signal.SIGTERM),
            (now + first + second, signal.SIGKILL),
        ]

    @property
    def next(self) -> float | None:
        """When take() has something to give again."""
        return self._due[0][0] if self._due else None

    def take(self, now: float) -> list[signal.Signals]:
        """The signals that are due and were not taken yet."""
        due = [number for moment, number in self._due if moment <= now]
        self._due = self._due[len(due) :]
        return due
