"""Calls to our own services: retried when that is safe, bounded, traced, on somebody's behalf."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from services.chassis import deadline
from services.chassis.auth import Access
from services.chassis.channel import ChannelConfig, Identity, callers_token, nobody, open_channel
from services.chassis.errors import Error, Internal, StateConflict, Unavailable, from_rpc_error
from services.chassis.layers.call import Context
from tests.support.probe import METHODS, Answer, Ask, Probe, ProbeStub, Served, serving
from tests.support.process import free_port

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Flaky:
    """Fails so often before it answers."""

    def __init__(self, error: Error, times: int) -> None:
        self.attempts = 0
        self._error = error
        self._times = times

    async def answer(self, request: Any, _: Context) -> Any:
        self.attempts += 1
        if self.attempts <= self._times:
            raise self._error
        return Answer(text=request.text)


def calling(served: Served) -> grpc.aio.Channel:
    return open_channel(ChannelConfig(target=served.server.address))


async def test_what_was_unavailable_is_asked_again() -> None:
    flaky = Flaky(Unavailable.of("database"), times=2)
    async with serving(Probe(one_one=flaky.answer)) as served, calling(served) as channel:
        assert (await ProbeStub(channel).OneOne(Ask(text="x"))).text == "x"
    assert flaky.attempts == 3


async def test_what_stays_unavailable_is_asked_four_times_and_then_said_so() -> None:
    flaky = Flaky(Unavailable.of("database"), times=100)
    async with serving(Probe(one_one=flaky.answer)) as served, calling(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ProbeStub(channel).OneOne(Ask())
    error = from_rpc_error(caught.value)
    assert isinstance(error, Unavailable)
    assert error.metadata == {"dependency": "database"}
    assert flaky.attempts == 4


@pytest.mark.parametrize("error", [Internal(), StateConflict()], ids=lambda error: error.reason)
async def test_what_may_have_had_an_effect_is_not_asked_again(error: Error) -> None:
    flaky = Flaky(error, times=1)
    async with serving(Probe(one_one=flaky.answer)) as served, calling(served) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await ProbeStub(channel).OneOne(Ask())
    assert flaky.attempts == 1


async def say_remaining(_: Any, context: Context) -> Any:
    return Answer(text=str(deadline.remaining()))


@pytest.mark.parametrize(("asked", "expected"), [(None, 2.0), (1.0, 1.0), (3.0, 3.0)])
async def test_a_call_has_the_configured_time_unless_it_says_otherwise(
    asked: float | None, expected: float
) -> None:
    async with serving(Probe(one_one=say_remaining)) as served:
        config = ChannelConfig(target=served.server.address, timeout=timedelta(seconds=2))
        async with open_channel(config) as channel:
            left = float((await ProbeStub(channel).OneOne(Ask(), timeout=asked)).text)
    assert expected - 0.7 < left < expected + 0.1


async def test_a_call_made_while_serving_has_no_more_time_than_is_left() -> None:
    async with serving(Probe(one_one=say_remaining)) as back:

        async def relay(request: Any, _: Context) -> Any:
            async with open_channel(ChannelConfig(target=back.server.address)) as channel:
                return await ProbeStub(channel).OneOne(request, timeout=30)

        async with serving(Probe(one_one=relay)) as front:
            assert float((await front.stub.OneOne(Ask(), timeout=1)).text) < 1


async def test_a_call_is_made_on_the_callers_behalf() -> None:
    async with serving(Probe(), access=Access.USER) as back:

        async def relay(request: Any, _: Context) -> Any:
            async with open_channel(
                ChannelConfig(target=back.server.address), identity=callers_token
            ) as channel:
                return await ProbeStub(channel).OneOne(request)

        async with serving(Probe(one_one=relay), access=Access.USER) as front:
            # The two trust one issuer.
            front.issuer._key = back.issuer._key
            answer = await front.stub.OneOne(Ask(text="x"), metadata=back.user())
    assert answer.text == "x"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("identity", [nobody, callers_token], ids=["nobody", "caller"])
async def test_every_shape_carries_identity_and_trace(method: str, identity: Identity) -> None:
    seen: list[dict[str, Any]] = []

    async def note(request: Any, context: Context) -> Any:
        seen.append(dict(context.invocation_metadata() or ()))
        return Answer()

    async def note_many(request: Any, context: Context) -> AsyncIterator[Any]:
        seen.append(dict(context.invocation_metadata() or ()))
        yield Answer()

    async def asks() -> AsyncIterator[Any]:
        yield Ask()

    async with serving(Probe(note, note_many, note, note_many)) as back:

        async def relay(_: Any, context: Context) -> Any:
            async with open_channel(ChannelConfig(target=back.server.address), identity=identity) as channel:
                call = getattr(ProbeStub(channel), method)(asks() if method.startswith("Many") else Ask())
                _ = [each async for each in call] if method.endswith("Many") else await call
            return Answer()

        async with serving(Probe(one_one=relay), access=Access.USER) as front:
            traced = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-00")
            await front.stub.OneOne(Ask(), metadata=(*front.user(), traced))
    (metadata,) = seen
    assert metadata["traceparent"].split("-")[1] == TRACE
    assert metadata["authorization" if identity is callers_token else "traceparent"]
    assert ("authorization" in metadata) is (identity is callers_token)


async def test_a_stream_has_no_time_limit_of_its_own() -> None:
    async def slow(_: Any, context: Context) -> AsyncIterator[Any]:
        await asyncio.sleep(0.5)
        yield Answer(text=str(deadline.remaining()))

    async with serving(Probe(one_many=slow)) as served:
        config = ChannelConfig(target=served.server.address, timeout=timedelta(seconds=0.2))
        async with open_channel(config) as channel:
            assert [each.text async for each in ProbeStub(channel).OneMany(Ask())] == ["None"]


async def test_a_peer_that_comes_back_is_found_within_seconds() -> None:
    port = free_port()
    async with open_channel(ChannelConfig(target=f"127.0.0.1:{port}")) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await ProbeStub(channel).OneOne(Ask())
        async with serving(Probe(), port=port):
            before = time.monotonic()
            answer = await ProbeStub(channel).OneOne(Ask(text="x"), timeout=15, wait_for_ready=True)
            assert answer.text == "x"
            assert time.monotonic() - before < 6
