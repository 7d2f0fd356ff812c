"""Deadline: refuses deadlines that make no sense and ends calls that overrun theirs."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from services.chassis.deadline import use_deadline
from services.chassis.errors import DeadlineExceeded, InvalidField
from services.chassis.layers.call import Call, Handler, Method, current_task

__all__ = ["Deadline", "DeadlineConfig"]

_ROUNDING = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineConfig:
    """Which deadlines are accepted."""

    #: Given to a unary call that has none: curl-like tools send none.
    default: timedelta = timedelta(seconds=15)
    #: A unary call that asks for more is refused: its caller would wait in vain.
    longest: timedelta = timedelta(seconds=60)
    #: Work that could not be finished is not begun.
    shortest: timedelta = timedelta(milliseconds=5)
    #: Kept back, so that our typed answer arrives before the caller hangs up.
    shave: timedelta = timedelta(milliseconds=20)


class _End:
    """The end of one call's time."""

    __slots__ = ("_bucket", "_came", "_task")

    def __init__(self, task: asyncio.Task[Any], bucket: "set[_End]") -> None:
        self._task = task
        self._came = False
        self._bucket = bucket
        bucket.add(self)

    def come(self) -> None:
        self._came = True
        self._task.cancel()

    def forget(self) -> None:
        """The call is over."""
        self._bucket.discard(self)

    def cancelled_by_us(self) -> bool:
        # More than our one cancellation: somebody else's, the caller's, counts too.
        return self._came and self._task.uncancel() == 0


class _Wheel:
    """Timers for calls by the thousand: one of the loop's for all that end in the same 8 ms.

    0.6 us a call, where asyncio.timeout takes 4: most of that is a timer made to be cancelled.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, set[_End]] = {}

    def at(self, ends_at: float, task: asyncio.Task[Any]) -> _End:
        tick = int(ends_at * _TICKS) + 1
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = set()
            asyncio.get_running_loop().call_at(tick / _TICKS, self._turn, tick)
        return _End(task, bucket)

    def _turn(self, tick: int) -> None:
        for end in self._buckets.pop(tick):
            end.come()


# A second: calls end up to 8 ms late, well within what is shaved off.
_TICKS = 125


class Deadline:
    """The layer. A stream without a deadline runs until either side ends it."""

    def __init__(self, config: DeadlineConfig) -> None:
        self._default = config.default.total_seconds()
        self._longest = config.longest.total_seconds()
        self._shortest = config.shortest.total_seconds()
        self._shave = config.shave.total_seconds()
        self._wheel = _Wheel()

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        wheel = self._wheel

        async def bounded(call: Call) -> Any:
            seconds = self._seconds(method, call.context.time_remaining())
            if seconds is None:
                return await proceed(call)
            ends_at = asyncio.get_running_loop().time() + seconds
            use_deadline(ends_at)
            end = wheel.at(ends_at, current_task())
            try:
                return await proceed(call)
            except asyncio.CancelledError:
                if end.cancelled_by_us():
                    raise DeadlineExceeded from None
                raise
            finally:
                end.forget()

        return bounded

    def _seconds(self, method: Method, asked: float | None) -> float | None:
        if asked is None:
            return None if method.response_streaming else self._default
        # gRPC rounds a timeout up on its way: who asks for exactly the longest arrives with a little more.
        if asked > self._longest + _ROUNDING and not method.response_streaming:
            raise InvalidField.of("grpc-timeout", f"ask for at most {self._longest:g} s")
        # A tenth at most: a caller in a hurry is not robbed of its time.
        left = asked - min(self._shave, asked / 10)
        if left < self._shortest:
            raise DeadlineExceeded(f"The deadline left {max(asked, 0) * 1000:.1f} ms; nothing was begun.")
        return left
