"""Telemetry of a process: JSON logs on stderr, traces by OTLP where a collector is named."""

import threading
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from services.chassis import logs
from services.chassis.config import environment
from services.chassis.redaction import Secret
from services.chassis.tracing import Exporter, Provider

__all__ = ["Secret", "configure"]

# A stop must not wait for a collector that is down: the SDK's own shutdown took 6.6 s then.
_SHUTDOWN_BOUND = 1.0


def configure(service: str, *, level: str = "INFO") -> Callable[[], None]:
    """Sets up logs and traces; the returned function flushes both, within 1.5 s whatever happens.

    The standard OTEL_* variables decide where spans go and how many are taken
    (OTEL_TRACES_SAMPLER, e.g. parentbased_traceidratio with 0.1). Where no
    collector is named none is recorded, but calls still get ids, for the logs.
    """
    logs.configure(service, level=level)
    if not environment().exports_traces:
        trace.set_tracer_provider(Provider(ALWAYS_OFF))
        return logs.flush
    processor = BatchSpanProcessor(Exporter(Resource.create({"service.name": service})))
    # The SDK's provider, made for nothing but its reading of OTEL_TRACES_SAMPLER.
    sampler = TracerProvider(shutdown_on_exit=False).sampler
    trace.set_tracer_provider(Provider(sampler, processor))

    def shutdown() -> None:
        # In a thread, because the SDK's shutdown cannot be told how long it may take.
        flushing = threading.Thread(target=processor.shutdown, name="trace flush", daemon=True)
        flushing.start()
        flushing.join(_SHUTDOWN_BOUND)
        logs.flush()

    return shutdown
