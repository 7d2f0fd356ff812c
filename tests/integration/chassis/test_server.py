"""The server: health that tells the truth, a clean end, and what it refuses to serve."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.chassis.auth import Access
from services.chassis.errors import Unavailable, from_rpc_error
from services.chassis.layers.call import Context
from services.chassis.server import AccessUnclear
from tests.support.probe import METHODS, SERVICE, Answer, Ask, Probe, Served, raw, serving

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Dependency:
    """Something that a service needs, up or down."""

    def __init__(self) -> None:
        self.up = True
        self.hangs = False
        self.checks = 0
        self.checked = asyncio.Event()

    async def check(self) -> None:
        self.checks += 1
        self.checked.set()
        self.checked.clear()
        if self.hangs:
            await asyncio.Event().wait()
        if not self.up:
            raise Unavailable.of("dependency")


async def statuses(served: Served, service: str) -> AsyncIterator[int]:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    async for response in stub.Watch(health_pb2.HealthCheckRequest(service=service)):
        yield response.status


async def status(served: Served, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(served.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    answered: int = response.status
    return answered


@pytest.mark.parametrize("service", [SERVICE, ""])
async def test_health_follows_a_dependency_down_and_up(service: str) -> None:
    dependency = Dependency()
    async with serving(Probe(), checks=(dependency.check,)) as served:
        watch = statuses(served, service)
        async with asyncio.timeout(5):
            assert await anext(watch) == SERVING
            dependency.up = False
            assert await anext(watch) == NOT_SERVING
            dependency.up = True
            assert await anext(watch) == SERVING


async def test_health_is_logged_when_it_changes_and_not_with_every_check(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dependency = Dependency()
    async with serving(Probe(), checks=(dependency.check,)) as served:
        watch = statuses(served, SERVICE)
        async with asyncio.timeout(5):
            assert await anext(watch) == SERVING
            dependency.up = False
            assert await anext(watch) == NOT_SERVING
            checked = dependency.checks
            while dependency.checks < checked + 5:
                await dependency.checked.wait()
            dependency.up = True
            assert await anext(watch) == SERVING
    assert [each.message for each in caplog.records] == ["unhealthy", "healthy again"]


async def test_a_check_that_is_itself_broken_is_a_service_that_is_down() -> None:
    async def broken() -> None:
        raise KeyError("a bug")

    async with serving(Probe(), checks=(broken,)) as served:
        assert await status(served, SERVICE) == NOT_SERVING


async def test_a_dependency_that_does_not_answer_is_down() -> None:
    dependency = Dependency()
    async with serving(Probe(), checks=(dependency.check,)) as served:
        watch = statuses(served, SERVICE)
        async with asyncio.timeout(5):
            assert await anext(watch) == SERVING
            dependency.hangs = True
            assert await anext(watch) == NOT_SERVING


async def test_a_server_that_starts_without_its_dependency_says_so_from_the_first_moment() -> None:
    dependency = Dependency()
    dependency.up = False
    async with serving(Probe(), checks=(dependency.check,)) as served:
        assert await status(served, SERVICE) == NOT_SERVING
        assert await status(served, "") == NOT_SERVING


async def test_the_health_of_an_unknown_service_is_not_found() -> None:
    async with serving(Probe()) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(served, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_names_every_service() -> None:
    async with serving(Probe()) as served:

        async def asks() -> AsyncIterator[Any]:
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            yield reflection_pb2.ServerReflectionRequest(
                file_containing_symbol=SERVICE.rpartition(".")[0] + ".Ask"
            )

        untyped: Any = served.channel  # The stub's types know the blocking channel only.
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(untyped)
        listed, file = [each async for each in stub.ServerReflectionInfo(asks())]
    assert {each.name for each in listed.list_services_response.service} >= {SERVICE, "grpc.health.v1.Health"}
    assert file.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize(
    "accesses",
    [
        {},
        {"OneOne": Access.USER},
        {**dict.fromkeys(METHODS, Access.USER), "Forgotten": Access.USER},
    ],
    ids=["none", "some", "too-many"],
)
async def test_a_method_whose_access_is_unclear_is_not_served(accesses: dict[str, Access]) -> None:
    with pytest.raises(AccessUnclear):
        await serving(Probe(), accesses=accesses).__aenter__()


async def test_a_stop_lets_calls_in_flight_finish() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, context: Context) -> Any:
        began.set()
        await go_on.wait()
        return Answer(text="finished")

    async with serving(Probe(one_one=slow)) as served:
        calling = asyncio.ensure_future(served.stub.OneOne(Ask()))
        await began.wait()
        stopping = asyncio.create_task(served.server.stop())
        await asyncio.sleep(0)
        go_on.set()
        assert (await calling).text == "finished"
        await stopping


async def test_health_turns_before_anything_else_at_a_stop() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, context: Context) -> Any:
        began.set()
        await go_on.wait()
        return Answer()

    async with serving(Probe(one_one=slow)) as served:
        watch = statuses(served, SERVICE)
        assert await anext(watch) == SERVING
        calling = asyncio.ensure_future(served.stub.OneOne(Ask()))
        await began.wait()
        stopping = asyncio.create_task(served.server.stop())
        async with asyncio.timeout(5):
            assert await anext(watch) == NOT_SERVING
        assert not calling.done()
        go_on.set()
        await calling
        await stopping


async def test_someone_who_watches_our_health_does_not_hold_up_a_stop() -> None:
    async with serving(Probe(), grace=timedelta(seconds=30)) as served:
        watch = statuses(served, SERVICE)
        assert await anext(watch) == SERVING
        before = time.monotonic()
        await served.server.stop()
        assert time.monotonic() - before < 5
        assert await anext(watch) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(watch)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_stop_refuses_new_calls() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, context: Context) -> Any:
        began.set()
        await go_on.wait()
        return Answer()

    async with serving(Probe(one_one=slow)) as served:
        calling = asyncio.ensure_future(served.stub.OneOne(Ask()))
        await began.wait()
        stopping = asyncio.create_task(served.server.stop())
        async with grpc.aio.insecure_channel(served.server.address) as late, asyncio.timeout(5):
            while True:
                probe = raw(late, f"/{SERVICE}/OneOne")
                try:
                    await probe(b"", timeout=0.2)
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNAVAILABLE:
                        break
        go_on.set()
        await calling
        await stopping


async def test_open_streams_end_at_a_stop_with_a_reason_and_when_to_come_back() -> None:
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def watch(_: Any, context: Context) -> AsyncIterator[Any]:
        try:
            yield Answer(text="1")
            began.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with serving(Probe(one_many=watch), grace=timedelta(seconds=30)) as served:
        call = served.stub.OneMany(Ask())
        assert (await call.read()).text == "1"
        await began.wait()
        before = time.monotonic()
        stopping = asyncio.create_task(served.server.stop())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        await stopping
    error = from_rpc_error(caught.value)
    assert isinstance(error, Unavailable)
    assert error.metadata == {"dependency": "server"}
    assert error.retry_after == timedelta(seconds=1)
    assert cleaned.is_set()
    assert time.monotonic() - before < 5


async def test_a_stream_being_written_at_full_speed_ends_at_a_stop_too() -> None:
    async def flood(_: Any, context: Context) -> AsyncIterator[Any]:
        while True:
            yield Answer(text="x" * 1000)

    async with serving(Probe(one_many=flood), grace=timedelta(seconds=30)) as served:
        calls = [served.stub.OneMany(Ask()) for _ in range(20)]
        await asyncio.gather(*(call.read() for call in calls))
        stopping = asyncio.create_task(served.server.stop())

        async def end(call: Any) -> grpc.StatusCode:
            try:
                while await call.read() is not grpc.aio.EOF:
                    continue
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        async with asyncio.timeout(10):
            assert set(await asyncio.gather(*(end(call) for call in calls))) == {grpc.StatusCode.UNAVAILABLE}
            await stopping


async def test_what_does_not_finish_in_its_grace_is_forced() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def stuck(_: Any, context: Context) -> Any:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with serving(Probe(one_one=stuck), grace=timedelta(seconds=0.2)) as served:
        calling = asyncio.ensure_future(served.stub.OneOne(Ask(), timeout=50))
        await began.wait()
        before = time.monotonic()
        await served.server.stop()
        assert time.monotonic() - before < 3
        async with asyncio.timeout(5):
            await cancelled.wait()
        with pytest.raises(grpc.aio.AioRpcError):
            await calling


async def test_a_port_in_use_is_an_error_and_not_a_second_server() -> None:
    async with serving(Probe()) as served:
        with pytest.raises(RuntimeError):
            await serving(Probe(), port=served.server.port).__aenter__()


async def test_two_servers_share_a_port_when_told_to() -> None:
    async with serving(Probe(), reuse_port=True) as first:
        async with serving(Probe(), reuse_port=True, port=first.server.port) as second:
            assert second.server.port == first.server.port
            assert (await second.stub.OneOne(Ask(text="x"))).text == "x"
        assert (await first.stub.OneOne(Ask(text="x"))).text == "x"


async def test_hundreds_of_streams_opened_at_once_are_all_served() -> None:
    # gRPC's default for pending requests refuses part of such a burst with CANCELLED.
    release = asyncio.Event()

    async def held(_: Any, context: Context) -> AsyncIterator[Any]:
        await release.wait()
        yield Answer(text="x")

    async with serving(Probe(one_many=held)) as served:
        calls = [asyncio.ensure_future(served.stub.OneMany(Ask()).read()) for _ in range(1500)]
        await asyncio.sleep(0.1)
        release.set()
        assert {each.text for each in await asyncio.gather(*calls)} == {"x"}
