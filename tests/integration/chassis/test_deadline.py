"""Deadlines: refused when they make no sense, kept when they do, and handed on."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from services.chassis import deadline
from services.chassis.auth import Access
from services.chassis.errors import DeadlineExceeded, Error, InvalidField, from_rpc_error
from services.chassis.layers import DeadlineConfig, LayersConfig
from services.chassis.layers.call import Call, Context, Method, current_task
from services.chassis.layers.deadline import Deadline
from tests.support.probe import Answer, Ask, Probe, Served, serving

CONFIG = DeadlineConfig(
    default=timedelta(seconds=0.3), longest=timedelta(seconds=60), shortest=timedelta(milliseconds=50)
)


async def refusal(served: Served, **options: Any) -> Error:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.OneOne(Ask(), **options)
    return from_rpc_error(caught.value)


async def remaining(_: Any, context: Context) -> Any:
    return Answer(text=str(deadline.remaining()))


async def forever(_: Any, context: Context) -> Any:
    await asyncio.Event().wait()


async def test_the_handler_knows_what_remains_a_little_less_than_the_caller_gave() -> None:
    async with serving(Probe(one_one=remaining)) as served:
        left = float((await served.stub.OneOne(Ask(), timeout=10)).text)
        assert 9.5 < left < 10.1
        left = float((await served.stub.OneOne(Ask(), timeout=0.1)).text)
        assert 0.05 < left < 0.095


async def test_a_call_without_a_deadline_gets_the_default() -> None:
    async with serving(Probe(one_one=forever), layers=LayersConfig(deadline=CONFIG)) as served:
        began = time.monotonic()
        assert isinstance(await refusal(served), DeadlineExceeded)
        assert 0.25 < time.monotonic() - began < 2


async def test_an_overrun_is_answered_with_a_reason_before_the_caller_hangs_up() -> None:
    async with serving(Probe(one_one=forever)) as served:
        error = await refusal(served, timeout=0.5)
    # gRPC's own DEADLINE_EXCEEDED, made at the client, has no details of ours.
    assert isinstance(error, DeadlineExceeded)
    assert error.message == "The deadline passed."


async def test_more_time_than_is_ever_given_is_refused() -> None:
    async with serving(Probe(), layers=LayersConfig(deadline=CONFIG)) as served:
        error = await refusal(served, timeout=65)
        assert isinstance(error, InvalidField)
        assert error.fields[0].field == "grpc-timeout"
        assert await served.stub.OneOne(Ask(), timeout=60)


async def test_too_little_time_begins_nothing() -> None:
    reached = []

    async def note(_: Any, context: Context) -> Any:
        reached.append(1)
        return Answer()

    # The server refuses what the client's own clock would let it have.
    config = DeadlineConfig(shortest=timedelta(seconds=5))
    async with serving(Probe(one_one=note), layers=LayersConfig(deadline=config)) as served:
        error = await refusal(served, timeout=3)
    assert isinstance(error, DeadlineExceeded)
    assert "nothing was begun" in error.message
    assert not reached


async def test_a_stream_without_a_deadline_has_none() -> None:
    async def slow(_: Any, context: Context) -> AsyncIterator[Any]:
        assert deadline.remaining() is None
        for _number in range(3):
            await asyncio.sleep(0.15)
            yield Answer()

    async with serving(Probe(one_many=slow), layers=LayersConfig(deadline=CONFIG)) as served:
        assert len([each async for each in served.stub.OneMany(Ask())]) == 3


async def test_a_stream_with_a_deadline_ends_by_it() -> None:
    async def endless(_: Any, context: Context) -> AsyncIterator[Any]:
        yield Answer()
        await asyncio.Event().wait()

    async with serving(Probe(one_many=endless)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [each async for each in served.stub.OneMany(Ask(), timeout=0.4)]
    assert from_rpc_error(caught.value).message == "The deadline passed."


async def test_a_stream_may_ask_for_more_than_a_unary_call() -> None:
    async with serving(Probe(), layers=LayersConfig(deadline=CONFIG)) as served:
        assert [each.text async for each in served.stub.OneMany(Ask(words=["a"]), timeout=3600)] == ["a"]


async def test_a_timeout_inside_the_handler_is_not_taken_for_the_callers() -> None:
    async def impatient(_: Any, context: Context) -> Any:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async with serving(Probe(one_one=impatient)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.OneOne(Ask(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INTERNAL


async def test_a_cancellation_that_comes_with_the_deadline_is_not_swallowed() -> None:
    class Leaving:
        """The context of a call whose caller leaves at the very moment its time is over."""

        def time_remaining(self) -> float:
            return 0.1

        def invocation_metadata(self) -> tuple[()]:
            return ()

    async def proceed(_: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            current_task().cancel()

    context: Any = Leaving()
    layer = Deadline(DeadlineConfig())
    method = Method(
        path="/a/b",
        access=Access.PUBLIC,
        request_streaming=False,
        response_streaming=False,
        decode=bytes,
        encode=bytes,
    )
    task = asyncio.create_task(layer(method, proceed)(Call(method, b"", context)))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_deadline_of_one_call_does_not_reach_the_next() -> None:
    async with serving(Probe(one_one=remaining)) as served:
        await served.stub.OneOne(Ask(), timeout=1)
        assert float((await served.stub.OneOne(Ask())).text) > 10


async def test_outside_a_call_there_is_no_deadline() -> None:
    assert deadline.remaining() is None
    assert deadline.at_most(3) == 3


async def test_what_waits_is_given_the_shorter_time() -> None:
    async def both(_: Any, context: Context) -> Any:
        return Answer(text=f"{deadline.at_most(0.2)} {deadline.at_most(100)}")

    async with serving(Probe(one_one=both)) as served:
        short, long = map(float, (await served.stub.OneOne(Ask(), timeout=10)).text.split())
    assert short == 0.2
    assert 9 < long < 10
