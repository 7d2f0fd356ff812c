"""What the chassis's integration tests share."""

from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from services.chassis.database import Database, DatabaseConfig
from services.chassis.tracing import Provider
from tests.support import database as support


@pytest.fixture(scope="session")
def recorder() -> InMemorySpanExporter:
    """The process's spans: only those are recorded whose caller asks for it in its traceparent."""
    exporter = InMemorySpanExporter()
    trace.set_tracer_provider(Provider(ParentBased(ALWAYS_OFF), SimpleSpanProcessor(exporter)))
    return exporter


@pytest.fixture
def spans(recorder: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    """The spans of one test."""
    recorder.clear()
    yield recorder
    recorder.clear()


@pytest.fixture
async def db(database: support.Database) -> AsyncIterator[Database]:
    """A pool of one connection, logged in as the streams service: what leaks is seen at once."""
    config = DatabaseConfig(url=database.dsn("streamax_streams"), pool_min=1, pool_max=1)
    async with Database(config, application_name="chassis test") as opened:
        yield opened
