"""Traces across processes, by the standard variables, to a real collector."""

import re
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.database import Database
from services.chassis.errors import Internal, ResourceNotFound, from_rpc_error
from services.chassis.layers.call import Context
from services.chassis.tracing import Span
from tests.support.otlp import attributes, collecting
from tests.support.probe import Answer, Ask, Probe, raw, serving
from tests.support.program import running

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
UNSAMPLED = (("traceparent", f"00-{TRACE}-{PARENT}-00"),)


def finished(spans: InMemorySpanExporter) -> list[Span]:
    ended: tuple[Any, ...] = spans.get_finished_spans()  # Ours, not the SDK's.
    return [span for span in ended if isinstance(span, Span)]


async def test_a_sampled_caller_gets_a_span_in_its_trace(spans: InMemorySpanExporter) -> None:
    async with serving(Probe()) as served:
        await served.stub.OneOne(Ask(), metadata=SAMPLED)
    (span,) = finished(spans)
    assert span.name == "tests.probe.Probe/OneOne"
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.attributes["rpc.method"] == "OneOne"


@pytest.mark.parametrize(
    "metadata",
    [
        UNSAMPLED,
        (),
        (("traceparent", "nonsense"),),
        (("traceparent", f"00-{'0' * 32}-{PARENT}-01"),),
        (("traceparent", f"00-{TRACE}-{'0' * 16}-01"),),
        (("traceparent", f"ff-{TRACE}-{PARENT}-01"),),
        (("traceparent", f"00-{TRACE}-{PARENT}-01-more"),),
    ],
    ids=["unsampled", "none", "nonsense", "zero-trace", "zero-span", "version", "longer"],
)
async def test_nobody_elses_calls_are_recorded(spans: InMemorySpanExporter, metadata: Any) -> None:
    async with serving(Probe()) as served:
        await served.stub.OneOne(Ask(), metadata=metadata)
    assert not spans.get_finished_spans()


async def test_a_streams_span_lasts_as_long_as_the_stream(spans: InMemorySpanExporter) -> None:
    async with serving(Probe()) as served:
        call = served.stub.OneMany(Ask(words=["a", "b"]), metadata=SAMPLED)
        assert await call.read()
        assert [each async for each in _rest(call)]
    (span,) = finished(spans)
    assert span.name == "tests.probe.Probe/OneMany"


async def _rest(call: Any) -> Any:
    while (message := await call.read()) is not grpc.aio.EOF:
        yield message


async def test_a_failure_of_ours_marks_the_span_and_a_refusal_does_not(spans: InMemorySpanExporter) -> None:
    async def fail(request: Any, _: Context) -> Any:
        raise KeyError("a secret") if request.text == "ours" else ResourceNotFound.of("Thing", 1)

    async with serving(Probe(one_one=fail)) as served:
        for text in ("ours", "theirs"):
            with pytest.raises(grpc.aio.AioRpcError):
                await served.stub.OneOne(Ask(text=text), metadata=SAMPLED)
    ours, theirs = finished(spans)
    assert ours.failed
    assert not theirs.failed
    assert ours.attributes["error.type"] == "KeyError"
    assert theirs.attributes["error.type"] == "RESOURCE_NOT_FOUND"
    assert "a secret" not in str(vars(ours))


async def test_a_caller_learns_the_id_of_its_own_trace(spans: InMemorySpanExporter) -> None:
    async def fail(_: Any, context: Context) -> Any:
        raise KeyError

    async with serving(Probe(one_one=fail)) as served:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await served.stub.OneOne(Ask(), metadata=UNSAMPLED)
    error = from_rpc_error(caught.value)
    assert isinstance(error, Internal)
    assert error.metadata["trace_id"] == TRACE


async def test_a_statement_is_a_child_of_its_call_when_that_is_recorded(
    spans: InMemorySpanExporter, db: Database
) -> None:
    async def read(_: Any, context: Context) -> Any:
        return Answer(text=str(await db.fetchval("SELECT 'a secret'")))

    async with serving(Probe(one_one=read)) as served:
        await served.stub.OneOne(Ask(), metadata=SAMPLED)
        statement, call = finished(spans)
        assert (statement.name, call.name) == ("SELECT", "tests.probe.Probe/OneOne")
        assert statement.parent is not None
        assert statement.parent.span_id == call.context.span_id
        assert "a secret" not in str(vars(statement))
        spans.clear()
        await served.stub.OneOne(Ask(), metadata=UNSAMPLED)
        assert not spans.get_finished_spans()


async def test_two_services_share_a_trace_at_a_real_collector() -> None:
    async with collecting() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        async with running("serve-traced", environment=environment) as back:
            upstream = (await back.until_said(lambda line: "address" in line))["address"]
            async with running("serve-traced", upstream, environment=environment) as front:
                address = (await front.until_said(lambda line: "address" in line))["address"]
                async with grpc.aio.insecure_channel(address) as channel:
                    call = raw(channel, "/tests.probe.Probe/OneOne")
                    await call(b"", metadata=SAMPLED, timeout=7)
                await collector.until(lambda: len(collector.spans) >= 2)
                logged = [
                    await each.until_logged(lambda line: line.get("message") == "rpc")
                    for each in (front, back)
                ]
    spans = dict(collector.spans)
    assert spans["front"].trace_id.hex() == spans["back"].trace_id.hex() == TRACE
    assert spans["front"].parent_span_id.hex() == PARENT
    assert spans["back"].parent_span_id == spans["front"].span_id
    assert attributes(spans["back"])["rpc.service"] == "tests.probe.Probe"
    assert [line["trace_id"] for line in logged] == [TRACE, TRACE]


async def test_a_deadline_reaches_the_next_service_a_little_shorter() -> None:
    async with running("serve-traced") as back:
        upstream = (await back.until_said(lambda line: "address" in line))["address"]
        async with running("serve-traced", upstream) as front:
            address = (await front.until_said(lambda line: "address" in line))["address"]
            async with grpc.aio.insecure_channel(address) as channel:
                answer = await raw(channel, "/tests.probe.Probe/OneOne")(b"", timeout=3)
    left = float(re.findall(rb"[\d.]+", answer)[0])
    assert 1 < left < 3


@pytest.mark.parametrize("up", [True, False], ids=["collector-up", "collector-down"])
async def test_a_stop_flushes_its_spans_and_waits_for_no_collector_long(up: bool) -> None:
    async with collecting() as collector:
        endpoint = collector.endpoint if up else "http://127.0.0.1:9"
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        async with running("serve-traced", environment=environment) as program:
            address = (await program.until_said(lambda line: "address" in line))["address"]
            async with grpc.aio.insecure_channel(address) as channel:
                for _ in range(100):
                    await raw(channel, "/tests.probe.Probe/OneOne")(b"")
            assert program.process.stdin is not None
            program.process.stdin.close()
            took = (await program.until_said(lambda line: "shutdown_seconds" in line))["shutdown_seconds"]
            assert await program.ended() == 0
        assert took < 1.5
        if up:
            await collector.until(lambda: len(collector.spans) == 100)


async def test_without_a_collector_nothing_is_recorded_but_calls_have_ids() -> None:
    async with running("serve-traced") as program:
        address = (await program.until_said(lambda line: "address" in line))["address"]
        async with grpc.aio.insecure_channel(address) as channel:
            await raw(channel, "/tests.probe.Probe/OneOne")(b"")
        line = await program.until_logged(lambda line: line.get("message") == "rpc")
    assert re.fullmatch("[0-9a-f]{32}", line["trace_id"])
    assert line["trace_id"] != "0" * 32
