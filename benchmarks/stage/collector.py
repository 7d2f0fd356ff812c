"""An OpenTelemetry collector that counts the spans it is given: `python -m benchmarks.stage.collector`."""

import json
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from benchmarks.stage.programs import program

__all__ = ["Collector", "collecting"]

_TAKEN: Final = "/benchmarks.Collector/Taken"


class Collector:
    """One that runs."""

    def __init__(self, address: str, taken: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]) -> None:
        self.address = address
        self._taken = taken

    async def spans(self) -> int:
        """How many it has been given so far."""
        return int(await self._taken(b""))

    def environment(self, *, sampler: str, argument: str = "") -> dict[str, str]:
        """The standard variables that make a program send it its spans."""
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{self.address}",
            "OTEL_TRACES_SAMPLER": sampler,
        }
        return variables | ({"OTEL_TRACES_SAMPLER_ARG": argument} if argument else {})


@asynccontextmanager
async def collecting(folder: Path) -> AsyncIterator[Collector]:
    """A collector in a process of its own."""
    async with (
        program("benchmarks.stage.collector", log=folder / "collector.log") as running,
        grpc.aio.insecure_channel(running.address) as channel,
    ):
        taken: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_TAKEN)
        yield Collector(running.address, taken)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._spans = 0

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        match details.method:
            case "/opentelemetry.proto.collector.trace.v1.TraceService/Export":
                return grpc.unary_unary_rpc_method_handler(self._export)
            case _ if details.method == _TAKEN:
                return grpc.unary_unary_rpc_method_handler(lambda *_: str(self._spans).encode())
        return None

    def _export(self, message: bytes, _: object) -> bytes:
        request = ExportTraceServiceRequest.FromString(message)
        self._spans += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
        return bytes(ExportTraceServiceResponse().SerializeToString())


def main() -> None:
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    # One thread: the count needs no lock then.
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((_Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"message": "ready", "address": f"127.0.0.1:{port}"}), flush=True)
    stopping.wait()
    server.stop(None)


if __name__ == "__main__":
    main()
