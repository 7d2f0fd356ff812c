"""The resident worker: started warm, asked about one file at a time, replaced when broken."""

import asyncio
import logging
import socket
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final, Self

import services
from services.chassis.errors import Unavailable
from services.streams.media.facts import ANSWER_MAX, READY, Answer, Malformed

__all__ = ["Broken", "Examiner"]

_log = logging.getLogger(__name__)

#: A program of its own rather than a fork: nothing of this process's memory, keys
#: and sockets is in it. -P -s: it imports from nowhere but here.
_COMMAND: Final = (sys.executable, "-P", "-s", "-B", "-m", "services.streams.media.worker")
_ENVIRONMENT: Final = {"PYTHONPATH": str(Path(services.__path__[0]).parent)}


class Broken(Exception):
    """The worker died of the file, took too long or talked nonsense. The text is for the log."""


class Examiner:
    """Holds one worker, or its starting; what goes wrong with it costs one file at most."""

    def __init__(self, *, patience: float, start: float) -> None:
        """Seconds that one file, and the start of a worker, may take."""
        self._patience = patience
        self._start = start
        self._worker: asyncio.Task[_Worker] | None = None

    def warm(self) -> None:
        """Begin to start the worker; does not wait for it."""
        self._renew()

    async def close(self) -> None:
        """End the worker, whatever it is doing."""
        starting, self._worker = self._worker, None
        if starting is None:
            return
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled() and not starting.exception():
            await starting.result().end()

    async def ask(self, descriptor: int) -> Answer:
        """The worker's answer about the open file. One question at a time, please.

        Raises Broken when the file got the better of the worker, Unavailable when
        no worker starts.
        """
        worker = await self._given(descriptor)
        answer = None
        try:
            async with asyncio.timeout(self._patience):
                answer = Answer.from_message(await worker.answer())
        except (TimeoutError, ConnectionError, Malformed) as error:
            raise Broken(repr(error)) from error
        finally:
            # Also when cancelled: the next file must not be told this one's answer.
            if answer is None or answer.last:
                await self._replace()
        return answer

    async def _given(self, descriptor: int) -> "_Worker":
        """A worker that has been handed the file. One that died idle costs only another try."""
        for _ in range(2):
            worker = await self._ready()
            try:
                worker.give(descriptor)
            except ConnectionError:
                _log.warning("the media worker died while idle", extra={"action": "probe"})
                await self._replace()
            else:
                return worker
        raise Unavailable.of("media worker", private="it dies as soon as it is ready")

    async def _ready(self) -> "_Worker":
        worker = self._worker
        if worker is None or (worker.done() and worker.exception()):
            worker = self._renew()
        try:
            return await asyncio.shield(worker)
        except (OSError, TimeoutError) as error:
            raise Unavailable.of("media worker", private=f"it does not start: {error!r}") from error

    async def _replace(self) -> None:
        await self.close()
        self._renew()

    def _renew(self) -> "asyncio.Task[_Worker]":
        self._worker = asyncio.create_task(_Worker.start(within=self._start), name="start media worker")
        return self._worker


class _Worker:
    """One worker process and the socket to it. Closing the socket alone would end it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls, *, within: float) -> Self:
        """A worker that has confined itself. Raises OSError or TimeoutError."""
        async with AsyncExitStack() as failing:
            # One message is one packet: no lengths, no partial reads.
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failing.enter_context(closing(ours))
            ours.setblocking(False)
            with theirs:
                worker = cls(_spawn(theirs), ours)
            failing.push_async_callback(worker.end)
            async with asyncio.timeout(within):
                if await worker.answer() != READY:
                    raise ConnectionError("the worker did not say that it is ready")
            failing.pop_all()
            return worker

    def give(self, descriptor: int) -> None:
        """Raises ConnectionError when the worker is gone."""
        socket.send_fds(self._channel, [b"?"], [descriptor])

    async def answer(self) -> bytes:
        """Raises ConnectionError when the worker is gone."""
        message = await asyncio.get_running_loop().sock_recv(self._channel, ANSWER_MAX)
        if not message:
            raise ConnectionResetError("the worker is gone")
        return message

    async def end(self) -> None:
        """Kill it, whatever it is doing, and wait until it is gone."""
        self._channel.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)


def _spawn(channel: socket.socket) -> "subprocess.Popen[bytes]":
    """Takes about a millisecond of the loop's time, as asyncio's own would.

    That one cannot be cancelled safely: uvloop's leaves a zombie behind.
    """
    return subprocess.Popen(  # noqa: S603  (a list of our own making, no shell)
        _COMMAND,
        stdin=channel.fileno(),
        stdout=subprocess.DEVNULL,
        cwd="/",
        env=_ENVIRONMENT,
        # Ctrl-C at a terminal is for the service, which ends its worker itself.
        start_new_session=True,
    )
