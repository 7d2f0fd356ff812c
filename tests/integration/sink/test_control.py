"""Steering a sink from another process."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cli.suite.control import serving
from cli.suite.sink import Mode, Sink


@pytest.fixture
async def port(sink: Sink) -> AsyncIterator[int]:
    async with serving(sink) as port:
        yield port


async def ask(port: int, line: str) -> tuple[int, Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{line} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, body = (await reader.read()).split(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(body)


async def test_counters_are_told(sink: Sink, port: int) -> None:
    sink.key("seen").rejected = 2
    status, snapshot = await ask(port, "GET /")
    assert status == 200
    assert snapshot["mode"] == "accept"
    assert snapshot["keys"]["seen"]["rejected"] == 2


async def test_mode_is_set_for_everybody(sink: Sink, port: int) -> None:
    assert (await ask(port, "POST /freeze"))[0] == 200
    assert sink.mode_for(None) is Mode.FREEZE


async def test_mode_is_set_for_one_key(sink: Sink, port: int) -> None:
    await ask(port, "POST /reject_key?key=a%2Fb")
    assert sink.mode_for("a/b") is Mode.REJECT_KEY
    assert sink.mode_for("another") is Mode.ACCEPT


@pytest.mark.parametrize("line", ["POST /dance", "POST /closed?key=x"])
async def test_unknown_mode_names_the_known_ones(port: int, line: str) -> None:
    status, answer = await ask(port, line)
    assert status == 400
    assert "freeze" in answer["modes"]


async def test_other_methods_are_refused(port: int) -> None:
    assert (await ask(port, "DELETE /"))[0] == 405


async def test_reset_now_leaves_the_mode(sink: Sink, port: int) -> None:
    reader, writer = await asyncio.open_connection(sink.host, sink.port)
    await sink.until(lambda: sink.connections == 1)
    await ask(port, "POST /reset-now")
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    assert sink.mode_for(None) is Mode.ACCEPT
