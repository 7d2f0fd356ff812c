"""W3C trace context between processes: `traceparent` in metadata, both ways."""

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context

__all__ = ["extract", "inject"]

# Version 00 exactly, and nothing all zero; a malformed parent means no parent (W3C 3.2).
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_NOTHING = Context()


def extract(metadata: Mapping[str, Any]) -> Context:
    """The caller's span as a context; an empty one when it sent none."""
    header = metadata.get("traceparent")
    if header is None:
        return _NOTHING
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return _NOTHING
    parent = trace.SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(match[3], 16)),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), _NOTHING)


def inject() -> str | None:
    """The `traceparent` of the current span; None outside any."""
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
