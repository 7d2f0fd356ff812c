"""How long the call being served may still take.

Asked by everything that waits for somebody else: the database turns it into a
query timeout, a channel into the deadline of the next call. Set by the layer.
"""

import asyncio
from contextvars import ContextVar

__all__ = ["at_most", "remaining", "use_deadline"]

# In the event loop's time.
_ends_at: ContextVar[float | None] = ContextVar("deadline", default=None)

# Set and never reset: each RPC runs in a task, and so in a context, of its own.
use_deadline = _ends_at.set


def remaining() -> float | None:
    """Seconds left of the RPC being served, never negative; None outside one or without a deadline."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(ends_at - asyncio.get_running_loop().time(), 0.0)


def at_most(seconds: float) -> float:
    """So many seconds, or what remains of the RPC being served if that is less."""
    left = remaining()
    return seconds if left is None else min(seconds, left)
