"""Steering a sink that runs in another process: HTTP on loopback, for curl and scripts.

curl localhost:1936                            what was counted, as JSON
curl -X POST localhost:1936/freeze             one of the modes, for everybody
curl -X POST 'localhost:1936/freeze?key=KEY'   … for one key
curl -X POST localhost:1936/reset-now          RST to the live connections, once
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from rich.console import Console

from cli.suite.signals import cancelled_by_signals
from cli.suite.sink import Mode, Sink

#: A request that has not ended by now is not one of curl's, seconds.
PATIENCE = 5.0


@asynccontextmanager
async def serving(sink: Sink, port: int = 0) -> AsyncIterator[int]:
    """The port it listens on, on loopback only: there is no password."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            status, body = await _obey(sink, head.split(b"\r\n")[0].decode("latin-1"))
            writer.write(_response(status, body))
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            # Nobody is left to be told.
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def serve(host: str, port: int, control: int, console: Console) -> None:
    """A sink of its own, until a signal."""
    async with Sink(host, port) as sink, serving(sink, control) as steering:
        console.print(
            f"{sink.url()}, steered at http://127.0.0.1:{steering}", highlight=False, soft_wrap=True
        )
        with cancelled_by_signals(), suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def _obey(sink: Sink, request: str) -> tuple[HTTPStatus, object]:
    match request.split(" "):
        case ["GET", _, _]:
            return HTTPStatus.OK, sink.snapshot()
        case ["POST", target, _]:
            return await _behave(sink, target)
        case _:
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": "GET for the counters, POST /<mode> to misbehave"}


async def _behave(sink: Sink, target: str) -> tuple[HTTPStatus, object]:
    parts = urlsplit(target)
    name = parts.path.strip("/")
    key = parse_qs(parts.query).get("key", [None])[0]
    try:
        if name == "reset-now":
            await sink.reset(key)
        else:
            await sink.behave(Mode(name), key)
    except ValueError as error:
        return HTTPStatus.BAD_REQUEST, {"error": str(error), "modes": [*Mode, "reset-now"]}
    return HTTPStatus.OK, sink.snapshot()


def _response(status: HTTPStatus, body: object) -> bytes:
    text = (json.dumps(body) + "\n").encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode() + text
