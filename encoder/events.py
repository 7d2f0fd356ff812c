"""What the supervisor waits for: pipes and signals, on one thread."""

import os
import select
import signal
from collections.abc import Callable
from typing import Final

READ: Final = select.POLLIN
WRITE: Final = select.POLLOUT

#: Of one pipe at one turn, so that a flood in one starves no other.
CHUNK: Final = 64 * 1024


class Events:
    """poll(2) with a handler per descriptor. Selectors and asyncio do no more here, for more memory."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def add(self, fd: int, handler: Callable[[], None], mask: int = READ) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, mask)

    def remove(self, fd: int) -> None:
        """Unknown: no error."""
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def wait(self, seconds: float) -> None:
        """Run the handlers of what happens, at most so long from now; returns after the first."""
        for fd, _ in self._poll.poll(max(0.0, seconds) * 1000):
            if handler := self._handlers.get(fd):
                handler()


class Stop:
    """Whether SIGTERM or SIGINT came; SIGCHLD is only made to wake the wait."""

    def __init__(self, events: Events) -> None:
        self.asked = False
        self._reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            # PID 1 of a container gets only the signals it has a handler for.
            signal.signal(number, lambda *_: None)
        # Whoever started us may log out; that is no order to stop.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        events.add(self._reader, self._read)

    def _read(self) -> None:
        numbers = os.read(self._reader, CHUNK)
        self.asked |= signal.SIGTERM in numbers or signal.SIGINT in numbers
