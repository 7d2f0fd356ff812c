"""Codec: bytes become messages, of bounded size."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from services.chassis.errors import InvalidField, MessageTooLarge
from services.chassis.layers.call import Call, Handler, Method

__all__ = ["Codec"]


class Codec:
    """The layer. gRPC itself accepts four times as much (see server.py), so that the refusal can be ours."""

    def __init__(self, max_message_bytes: int) -> None:
        self._largest = max_message_bytes

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        decode = self._decoder(method)

        async def one(call: Call) -> Any:
            call.request = decode(call.request)
            return await proceed(call)

        async def many(call: Call) -> Any:
            call.request = _each(call.request, decode)
            return await proceed(call)

        return many if method.request_streaming else one

    def _decoder(self, method: Method) -> Callable[[bytes], Any]:
        parse, largest = method.decode, self._largest

        def decode(raw: bytes) -> Any:
            if len(raw) > largest:
                raise MessageTooLarge(
                    f"The message has {len(raw)} bytes; send at most {largest}.",
                    metadata={"limit_bytes": str(largest)},
                )
            try:
                return parse(raw)
            except DecodeError as error:
                raise InvalidField("The request is not a valid protobuf message.") from error

        return decode


async def _each(messages: AsyncIterator[bytes], decode: Callable[[bytes], Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield decode(message)
