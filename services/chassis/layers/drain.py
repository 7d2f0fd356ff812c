"""Drain: open streams end, with a reason and a hint to retry, when the server stops.

A watch never ends by itself; without this it would hold the whole grace period
and then be cut without a word.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.chassis.errors import Unavailable
from services.chassis.layers.call import Call, Handler, Layer, Method, current_task

__all__ = ["Drain"]


class Drain:
    """The open streams of one server."""

    def __init__(self) -> None:
        self._open: set[asyncio.Task[Any]] = set()
        self._draining = False

    def begin(self) -> None:
        """Ends every open stream and each that still arrives."""
        self._draining = True
        for task in self._open:
            task.cancel()

    def layer(self) -> Layer:
        """The layer; leaves unary methods alone."""
        return self._around

    def _around(self, method: Method, proceed: Handler) -> Handler:
        if not method.response_streaming:
            return proceed

        async def drained(call: Call) -> Any:
            return await self.bracket(proceed(call))

        return drained

    async def bracket(self, stream: Coroutine[Any, Any, Any]) -> Any:
        """The stream's outcome; raises Unavailable when the drain ends it."""
        if self._draining:
            stream.close()
            raise _stopping()
        task = current_task()
        self._open.add(task)
        try:
            return await stream
        except asyncio.CancelledError:
            # A second cancellation, the caller's, is not ours to answer.
            if self._draining and task.uncancel() == 0:
                raise _stopping() from None
            raise
        finally:
            self._open.discard(task)


def _stopping() -> Unavailable:
    return Unavailable("The server is stopping; try again.", metadata={"dependency": "server"})
