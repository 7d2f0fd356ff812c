"""A real OTLP collector for tests: takes spans over gRPC and keeps them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """The spans that came in, by arrival."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self._arrived = asyncio.Condition()
        self.port = 0

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    async def Export(self, request: Any, context: Any) -> Any:
        async with self._arrived:
            for resource in request.resource_spans:
                service = next(
                    each.value.string_value
                    for each in resource.resource.attributes
                    if each.key == "service.name"
                )
                self.spans.extend((service, span) for scope in resource.scope_spans for span in scope.spans)
            self._arrived.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Span]:
        """The spans of this name so far."""
        return [span for _, span in self.spans if span.name == name]

    async def until(self, satisfied: Callable[[], bool]) -> None:
        """Returns when the spans that came in satisfy; raises TimeoutError after 20 s."""
        async with asyncio.timeout(20), self._arrived:
            await self._arrived.wait_for(satisfied)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a port of its own."""
    collector, server = Collector(), grpc.aio.server()
    stubs: Any = trace_service_pb2_grpc  # Generated without types.
    stubs.add_TraceServiceServicer_to_server(collector, server)
    collector.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(None)


def attributes(span: Span) -> dict[str, Any]:
    """The attributes of a span as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in span.attributes}
