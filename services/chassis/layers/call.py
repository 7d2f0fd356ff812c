"""The words every layer is written in: a method, a call of it, a handler, a layer."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from grpc import aio

from services.chassis.auth import ANONYMOUS, Access, Principal

__all__ = ["Call", "Context", "Handler", "Layer", "Method", "current_task"]

Context = aio.ServicerContext[Any, Any]

#: Serves a call to its end. A unary response is what it returns, encoded; the
#: messages of a stream are written on the way, so that a stream is one coroutine
#: too, and a layer brackets it like any other.
Handler = Callable[["Call"], Coroutine[Any, Any, bytes | None]]
Layer = Callable[["Method", Handler], Handler]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """What is known of a method before anybody calls it."""

    #: As on the wire: /streamax.streams.v1.StreamService/GetSession
    path: str
    access: Access
    request_streaming: bool
    response_streaming: bool
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]

    @property
    def service(self) -> str:
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        return self.path.split("/")[2]


class Call:
    """One RPC in flight; what one layer finds out, the others read here."""

    __slots__ = ("context", "metadata", "method", "principal", "request", "trace_id")

    def __init__(self, method: Method, request: Any, context: Context) -> None:
        self.method = method
        self.context = context
        #: Bytes until the codec has run, then the message; or an iterator over either.
        self.request = request
        self.metadata: Mapping[str, Any] = dict(context.invocation_metadata() or ())
        self.principal: Principal = ANONYMOUS
        #: 32 hexadecimal digits; empty before the tracing layer.
        self.trace_id = ""


def current_task() -> asyncio.Task[Any]:
    """The task of the call being served; gRPC gives each one its own."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a call is served in a task")
    return task
