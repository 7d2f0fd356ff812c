"""The layers around all four shapes of RPC, seen from the other end of a real channel."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID, uuid4

import grpc
import pytest
from google.rpc import status_pb2

from services.chassis.auth import Access, current_principal, require_user
from services.chassis.errors import (
    STATUS_TRAILER,
    Error,
    FieldViolation,
    Internal,
    InvalidField,
    MessageTooLarge,
    ResourceNotFound,
    RoleRequired,
    StateConflict,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
    Unimplemented,
    from_rpc_error,
)
from services.chassis.layers import LayersConfig
from services.chassis.layers.call import Context
from tests.support.probe import METHODS, Answer, Ask, Probe, ProbeStub, Served, raw, serving

SHAPES = pytest.mark.parametrize("method", METHODS)


async def messages(*texts: str) -> AsyncIterator[Any]:
    for text in texts:
        yield Ask(text=text)


async def answer(stub: ProbeStub, method: str, ask: Any = None, **options: Any) -> list[str]:
    """The texts a method answers, whatever its shape."""
    ask = ask or Ask(text="a", words=["a"])

    async def asks() -> AsyncIterator[Any]:
        yield ask

    call = getattr(stub, method)(asks() if method.startswith("Many") else ask, **options)
    if method.endswith("Many"):
        return [each.text async for each in call]
    return [(await call).text]


async def refusal(stub: ProbeStub, method: str, ask: Any = None, **options: Any) -> Error:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(stub, method, ask, **options)
    return from_rpc_error(caught.value)


def raising(error: Callable[[], BaseException]) -> Probe:
    async def one(_: Any, context: Context) -> Any:
        raise error()

    async def many(_: Any, context: Context) -> AsyncIterator[Any]:
        yield Answer(text="first")
        raise error()

    return Probe(one, many, one, many)


@SHAPES
async def test_an_answer_comes_through_every_shape(method: str) -> None:
    async with serving(Probe()) as served:
        assert await answer(served.stub, method, Ask(text="hello", words=["hello"])) == ["hello"]


async def test_streams_keep_their_order_both_ways() -> None:
    async with serving(Probe()) as served:
        texts = [f"{number}" for number in range(500)]
        call = served.stub.ManyMany(messages(*texts))
        assert [each.text async for each in call] == texts


@SHAPES
async def test_a_typed_error_arrives_with_reason_and_details(method: str) -> None:
    async with serving(raising(lambda: ResourceNotFound.of("Session", "s1"))) as served:
        error = await refusal(served.stub, method)
    assert isinstance(error, ResourceNotFound)
    assert error.resource is not None
    assert (error.resource.type, error.resource.name) == ("Session", "s1")


@SHAPES
async def test_an_unknown_exception_tells_its_caller_nothing_but_a_trace_id(method: str) -> None:
    async with serving(raising(lambda: KeyError("the database password is hunter2"))) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(served.stub, method)
    error = from_rpc_error(caught.value)
    assert isinstance(error, Internal)
    assert len(error.metadata["trace_id"]) == 32
    assert "hunter2" not in repr(caught.value)
    assert "KeyError" not in repr(caught.value)


async def test_the_log_holds_what_the_caller_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(raising(lambda: KeyError("what broke"))) as served:
        error = await refusal(served.stub, "OneOne")
    record = next(each for each in caplog.records if each.message == "rpc failed")
    assert vars(record)["trace_id"] == error.metadata["trace_id"]
    assert record.exc_info is not None
    assert "what broke" in str(record.exc_info[1])


async def test_private_detail_is_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(raising(lambda: StateConflict(private="row 7 is locked"))) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(served.stub, "OneOne")
    assert "row 7" not in repr(caught.value)
    assert any(vars(each).get("detail") == "row 7 is locked" for each in caplog.records)


async def test_trailers_set_by_the_handler_survive_a_refusal() -> None:
    async def watch(_: Any, context: Context) -> AsyncIterator[Any]:
        yield Answer(text="1")
        context.set_trailing_metadata((("last-revision", "1"),))
        raise StateConflict

    async with serving(Probe(one_many=watch)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(served.stub, "OneMany")
    assert ("last-revision", "1") in tuple(caught.value.trailing_metadata())
    assert isinstance(from_rpc_error(caught.value), StateConflict)


async def test_a_refusal_with_many_details_still_fits_into_trailers() -> None:
    fields = [FieldViolation(f"items[{number}]", "x" * 1000) for number in range(500)]
    async with serving(raising(lambda: InvalidField("y" * 5000, fields=fields))) as served:
        error = await refusal(served.stub, "OneOne")
    assert isinstance(error, InvalidField)
    assert error.fields[0].field == "items[0]"


@SHAPES
async def test_a_caller_who_leaves_cancels_the_handler(method: str) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def one(_: Any, context: Context) -> Any:
        await wait()

    async def many(_: Any, context: Context) -> AsyncIterator[Any]:
        await wait()
        yield Answer()

    async with serving(Probe(one, many, one, many)) as served:
        calling = asyncio.create_task(answer(served.stub, method))
        await began.wait()
        calling.cancel()
        async with asyncio.timeout(5):
            await cancelled.wait()
        await asyncio.gather(calling, return_exceptions=True)


async def test_a_stream_that_its_caller_leaves_is_closed_at_once() -> None:
    closed = asyncio.Event()
    kept: list[AsyncIterator[Any]] = []

    async def endless() -> AsyncIterator[Any]:
        try:
            while True:
                yield Answer(text="more")
        finally:
            closed.set()

    def held(_: Any, context: Context) -> AsyncIterator[Any]:
        # Somebody still refers to the stream, so that being collected does not close it.
        kept.append(endless())
        return kept[0]

    async with serving(Probe(one_many=held)) as served:
        call = served.stub.OneMany(Ask())
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            await closed.wait()


@SHAPES
async def test_a_message_over_the_limit_is_refused_by_name(method: str) -> None:
    async with serving(Probe(), layers=LayersConfig(max_message_bytes=1000)) as served:
        error = await refusal(served.stub, method, Ask(text="x" * 2000))
    assert isinstance(error, MessageTooLarge)
    assert error.metadata["limit_bytes"] == "1000"


async def test_a_message_far_over_the_limit_is_refused_by_grpc_itself() -> None:
    # Above four times the limit gRPC core answers before any Python runs: the
    # code is right, the reason is missing, and nothing was parsed.
    async with serving(Probe(), layers=LayersConfig(max_message_bytes=1000)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.OneOne(Ask(text="x" * 10_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@SHAPES
async def test_bytes_that_are_no_message_are_an_invalid_request(method: str) -> None:
    async with serving(Probe()) as served:
        shape = method.replace("One", "_unary").replace("Many", "_stream").removeprefix("_")
        called = raw(served.channel, f"/tests.probe.Probe/{method}", shape=shape)

        async def garbage() -> AsyncIterator[bytes]:
            yield b"\xff\xff\xff"

        call = called(garbage() if method.startswith("Many") else b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [each async for each in call] if method.endswith("Many") else await call
    assert isinstance(from_rpc_error(caught.value), InvalidField)


@SHAPES
async def test_rules_beside_the_fields_are_enforced_and_named(method: str) -> None:
    async with serving(Probe()) as served:
        error = await refusal(served.stub, method, Ask(words=["short", "far too long"]))
    assert isinstance(error, InvalidField)
    assert [each.field for each in error.fields] == ["words[1]"]
    assert "5" in error.fields[0].description


async def test_an_unknown_method_is_refused_with_a_reason() -> None:
    async with serving(Probe()) as served:
        for path in ("/tests.probe.Probe/Nothing", "/no.such.Service/Method"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await raw(served.channel, path)(b"anything")
            assert isinstance(from_rpc_error(caught.value), Unimplemented)


async def test_an_unknown_streaming_method_is_refused_with_a_reason() -> None:
    async def bytes_() -> AsyncIterator[bytes]:
        yield b"anything"

    async with serving(Probe()) as served:
        call = raw(served.channel, "/no.such.Service/Stream", shape="stream_stream")(bytes_())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [each async for each in call]
    assert isinstance(from_rpc_error(caught.value), Unimplemented)


# Who may call.


async def test_the_principal_of_a_call_is_its_tokens_and_reaches_the_handler() -> None:
    seen: list[UUID] = []

    async def who(_: Any, context: Context) -> Any:
        seen.append(require_user())
        return Answer()

    subject = uuid4()
    async with serving(Probe(one_one=who), access=Access.USER) as served:
        await served.stub.OneOne(Ask(), metadata=served.user(subject))
    assert seen == [subject]


async def test_principals_of_concurrent_calls_do_not_mix() -> None:
    async def who(_: Any, context: Context) -> Any:
        before = require_user()
        await asyncio.sleep(0)
        assert require_user() == before
        return Answer(text=str(before))

    async with serving(Probe(one_one=who), access=Access.USER) as served:
        subjects = [uuid4() for _ in range(50)]
        answers = await asyncio.gather(
            *(served.stub.OneOne(Ask(), metadata=served.user(subject)) for subject in subjects)
        )
    assert [each.text for each in answers] == [str(subject) for subject in subjects]


async def test_a_public_method_sees_nobody_even_after_a_user_has_called() -> None:
    async def who(_: Any, context: Context) -> Any:
        return Answer(text=repr(current_principal()))

    accesses = {**dict.fromkeys(METHODS, Access.USER), "OneOne": Access.PUBLIC}
    async with serving(Probe(one_one=who), accesses=accesses) as served:
        await answer(served.stub, "ManyOne", metadata=served.user())
        seen = await served.stub.OneOne(Ask(), metadata=served.user())
    assert seen.text == "Principal(anon, None)"


@SHAPES
@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        (lambda served: (), TokenMissing),
        (lambda served: (("authorization", "Basic dXNlcg=="),), TokenInvalid),
        (lambda served: (("authorization", "Bearer not.a.token"),), TokenInvalid),
        (lambda served: served.user(exp=1), TokenExpired),
        (lambda served: served.user(aud="elsewhere"), TokenInvalid),
        (lambda served: served.user(role="anon"), RoleRequired),
        (lambda served: served.user(role="service_role"), RoleRequired),
    ],
    ids=["missing", "not-bearer", "malformed", "expired", "audience", "anonymous", "service"],
)
async def test_strangers_are_refused_before_the_handler(
    method: str, metadata: Callable[[Served], Any], kind: type[Error]
) -> None:
    async with serving(raising(AssertionError), access=Access.USER) as served:
        error = await refusal(served.stub, method, metadata=metadata(served))
    assert type(error) is kind


async def test_a_method_for_services_refuses_users_and_serves_services() -> None:
    async with serving(Probe(), access=Access.SERVICE) as served:
        assert isinstance(await refusal(served.stub, "OneOne", metadata=served.user()), RoleRequired)
        assert await answer(served.stub, "OneOne", metadata=served.user(role="service_role")) == ["a"]


async def test_a_stranger_is_refused_before_the_request_is_parsed() -> None:
    async with serving(Probe(), access=Access.USER) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(served.channel, "/tests.probe.Probe/OneOne")(b"\xff\xff\xff")
    assert isinstance(from_rpc_error(caught.value), TokenMissing)


async def test_an_open_stream_ends_when_its_token_does() -> None:
    began = asyncio.Event()

    async def endless(_: Any, context: Context) -> AsyncIterator[Any]:
        began.set()
        await asyncio.Event().wait()
        yield Answer()

    async with serving(Probe(one_many=endless), access=Access.USER) as served:
        metadata = served.user(exp=time.time() + 0.3)
        error = await refusal(served.stub, "OneMany", metadata=metadata)
    assert began.is_set()
    assert isinstance(error, TokenExpired)


async def test_the_status_is_googles_so_that_any_client_can_read_it() -> None:
    async with serving(raising(lambda: StateConflict(metadata={"status": "stopped"}))) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(served.stub, "OneOne")
    trailer = dict(tuple(caught.value.trailing_metadata()))[STATUS_TRAILER]
    status = status_pb2.Status.FromString(trailer)
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    assert status.message == caught.value.details()
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.ErrorInfo"
