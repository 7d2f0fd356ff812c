"""The one place that knows gRPC's four handler shapes."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc

from services.chassis.auth import Access
from services.chassis.layers.call import Call, Context, Handler, Layer, Method

__all__ = ["mount"]


def mount(path: str, handler: Any, *, access: Access, layers: Sequence[Layer]) -> Any:
    """A servicer's `grpc.RpcMethodHandler` with the layers around it, the first outermost.

    The layers are composed here, once per method: eight of them cost 0.8 us a
    call. Entered per call as async context managers, which read as well, 17 us.
    """
    behavior, rebuild = _shape(handler)
    method = Method(
        path=path,
        access=access,
        request_streaming=handler.request_streaming,
        response_streaming=handler.response_streaming,
        decode=handler.request_deserializer or bytes,
        encode=handler.response_serializer or bytes,
    )
    chain = _stream(behavior) if method.response_streaming else _single(behavior)
    for layer in reversed(layers):
        chain = layer(method, chain)

    async def rpc(request: Any, context: Context) -> Any:
        return await chain(Call(method, request, context))

    # Bytes in, bytes out: parsing and printing happen inside the layers, so
    # that their failures are typed, logged and traced like all others.
    return rebuild(rpc)


def _single(behavior: Callable[[Any, Context], Awaitable[Any]]) -> Handler:
    async def serve(call: Call) -> bytes:
        return call.method.encode(await behavior(call.request, call.context))

    return serve


def _stream(behavior: Callable[[Any, Context], Any]) -> Handler:
    async def serve(call: Call) -> None:
        write, encode = call.context.write, call.method.encode
        # Closed at once when the call ends early, not whenever it is collected:
        # a watcher's `finally` gives back what it holds.
        async with aclosing(behavior(call.request, call.context)) as messages:
            async for message in messages:
                await write(encode(message))

    return serve


def _shape(handler: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return handler.unary_unary, grpc.unary_unary_rpc_method_handler
        case False, True:
            return handler.unary_stream, grpc.unary_stream_rpc_method_handler
        case True, False:
            return handler.stream_unary, grpc.stream_unary_rpc_method_handler
        case _:
            return handler.stream_stream, grpc.stream_stream_rpc_method_handler
