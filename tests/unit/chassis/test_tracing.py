"""Our spans keep what a span must keep, and nothing of what an exception says."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from services.chassis.tracing import Exporter, Provider, Span


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(kept: InMemorySpanExporter) -> trace.Tracer:
    return Provider(ALWAYS_ON, SimpleSpanProcessor(kept)).get_tracer("test")


def encoded(kept: InMemorySpanExporter) -> list[trace_pb2.Span]:
    """What goes to a collector."""
    ended: tuple[Any, ...] = kept.get_finished_spans()
    request = Exporter(Resource({"service.name": "test"}))._translate_data(ended)
    (resource,) = request.resource_spans
    assert resource.resource.attributes[0].value.string_value == "test"
    return list(resource.scope_spans[0].spans)


def test_a_span_arrives_with_all_it_was_told(tracer: trace.Tracer, kept: InMemorySpanExporter) -> None:
    parent = tracer.start_span("parent", kind=SpanKind.SERVER)
    child = tracer.start_span(
        "child",
        trace.set_span_in_context(parent),
        SpanKind.CLIENT,
        {"text": "x", "number": 7, "share": 0.5, "yes": True},
        start_time=5,
    )
    child.set_attribute("later", "y")
    child.set_attributes({"last": "z"})
    child.add_event("happened", {"at": "once"}, timestamp=6)
    child.update_name("renamed")
    child.end(9)
    (span,) = encoded(kept)
    values = {each.key: each.value for each in span.attributes}
    assert (span.name, span.kind) == ("renamed", trace_pb2.Span.SPAN_KIND_CLIENT)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (5, 9)
    assert span.parent_span_id == parent.get_span_context().span_id.to_bytes(8)
    assert span.trace_id == parent.get_span_context().trace_id.to_bytes(16)
    assert values["text"].string_value == "x"
    assert values["number"].int_value == 7
    assert values["share"].double_value == 0.5
    assert values["yes"].bool_value
    assert {"later", "last"} <= values.keys()
    assert [(each.name, each.time_unix_nano) for each in span.events] == [("happened", 6)]


def test_a_span_ends_once(tracer: trace.Tracer, kept: InMemorySpanExporter) -> None:
    span = tracer.start_span("once")
    assert span.is_recording()
    span.end()
    span.end()
    assert not span.is_recording()
    assert len(kept.get_finished_spans()) == 1


@pytest.mark.parametrize(("code", "failed"), [(StatusCode.ERROR, True), (StatusCode.OK, False)])
def test_a_span_says_whether_it_failed(
    tracer: trace.Tracer, kept: InMemorySpanExporter, code: StatusCode, failed: bool
) -> None:
    span = tracer.start_span("work")
    span.set_status(trace.Status(code, "a secret" if failed else None))
    span.end()
    (sent,) = encoded(kept)
    assert (sent.status.code == trace_pb2.Status.STATUS_CODE_ERROR) is failed
    assert "a secret" not in str(sent)


def test_an_exception_is_told_by_its_type_alone(tracer: trace.Tracer, kept: InMemorySpanExporter) -> None:
    def fail() -> None:
        with tracer.start_as_current_span("work") as span:
            assert trace.get_current_span() is span
            raise KeyError("a secret")

    with pytest.raises(KeyError):
        fail()
    (sent,) = encoded(kept)
    assert sent.status.code == trace_pb2.Status.STATUS_CODE_ERROR
    assert "KeyError" in str(sent)
    assert "a secret" not in str(sent)


def test_what_is_not_sampled_has_an_id_and_is_not_kept(kept: InMemorySpanExporter) -> None:
    tracer = Provider(ALWAYS_OFF, SimpleSpanProcessor(kept)).get_tracer("test")
    span = tracer.start_span("work")
    span.end()
    assert span.get_span_context().is_valid
    assert not span.is_recording()
    assert not kept.get_finished_spans()


def test_a_ratio_takes_its_share(kept: InMemorySpanExporter) -> None:
    tracer = Provider(TraceIdRatioBased(0.1), SimpleSpanProcessor(kept)).get_tracer("test")
    for _ in range(3000):
        tracer.start_span("work").end()
    assert 200 < len(kept.get_finished_spans()) < 400


def test_attributes_given_are_not_changed(tracer: trace.Tracer) -> None:
    shared = {"a": "1"}
    span = tracer.start_span("work", attributes=shared)
    assert isinstance(span, Span)
    span.set_attribute("b", "2")
    assert shared == {"a": "1"}
