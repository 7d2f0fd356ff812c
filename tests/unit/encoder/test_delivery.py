from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.delivery import Delivery, Rate, allowance
from encoder.job import Job
from encoder.report import State
from encoder.tcp import Connection

ALLOWANCE = 4000


def connection(acknowledged: int, queued: int = 0) -> Connection:
    return Connection(
        inode=1,
        established=True,
        acknowledged=acknowledged,
        queued=queued,
        round_trip_ms=1.0,
        retransmits=0,
        peer_limited=0.0,
        unanswered=False,
    )


def begun() -> Delivery:
    return Delivery(began=0.0, allowance=ALLOWANCE)


def test_the_conversation_before_the_media_is_no_delivery() -> None:
    delivery = begun()
    delivery.observe(0.1, connection(ALLOWANCE))
    assert (delivery.acknowledged, delivery.first_at) == (0, None)
    assert delivery.state(0.1, stall=8) is State.CONNECTING


def test_the_first_byte_beyond_it_is() -> None:
    delivery = begun()
    delivery.observe(0.1, connection(ALLOWANCE))
    delivery.observe(0.2, connection(ALLOWANCE + 1))
    assert (delivery.acknowledged, delivery.first_at, delivery.last_at) == (1, 0.2, 0.2)
    assert delivery.state(0.2, stall=8) is State.DELIVERING


def test_media_time_is_paid_between_milestones_in_proportion() -> None:
    delivery = begun()
    delivery.observe(1.0, connection(ALLOWANCE + 1000, queued=1000))
    delivery.handed_over(1.0, seconds=2.0, frames=60)
    assert delivery.seconds == pytest.approx(1.0)
    delivery.observe(1.5, connection(ALLOWANCE + 2000))
    assert delivery.seconds == pytest.approx(2.0)


def test_progress_alone_delivers_nothing() -> None:
    delivery = begun()
    delivery.observe(1.0, connection(ALLOWANCE + 1000))
    delivery.handed_over(1.0, seconds=1.0, frames=30)
    for second in range(2, 9):
        delivery.observe(second, connection(ALLOWANCE + 1000, queued=second * 1000))
        delivery.handed_over(second, seconds=second, frames=second * 30)
    assert delivery.seconds == pytest.approx(1.0)
    assert delivery.state(9.0, stall=8) is State.STALLED


def test_media_after_a_stall_is_delivery_again() -> None:
    delivery = begun()
    delivery.observe(1.0, connection(ALLOWANCE + 1000))
    assert delivery.state(9.0, stall=8) is State.STALLED
    delivery.observe(9.5, connection(ALLOWANCE + 1001))
    assert delivery.state(9.5, stall=8) is State.DELIVERING
    assert delivery.delivering == pytest.approx(8.5)


def test_progress_before_a_connection_counts_for_nothing() -> None:
    delivery = begun()
    delivery.handed_over(0.1, seconds=5.0, frames=1)
    delivery.observe(0.2, connection(ALLOWANCE + 10_000))
    assert delivery.seconds == 0.0


@dataclass(frozen=True)
class Step:
    """A moment of a stream."""

    #: Media bytes and media seconds handed over since the moment before.
    size: int
    seconds: float
    #: Of all bytes written so far, how much is acknowledged.
    share: float


steps = st.lists(
    st.builds(Step, size=st.integers(1, 10**6), seconds=st.floats(0.001, 2), share=st.floats(0, 1)),
    min_size=1,
)


@given(steps)
def test_delivered_time_only_grows_and_never_passes_what_was_handed_over(story: Sequence[Step]) -> None:
    delivery = begun()
    written, acknowledged, seconds, before = ALLOWANCE, 0, 0.0, 0.0
    for moment, step in enumerate(story):
        written += step.size
        seconds += step.seconds
        acknowledged = max(acknowledged, int(written * step.share))
        delivery.observe(moment, connection(acknowledged, queued=written - acknowledged))
        delivery.handed_over(moment, seconds=seconds, frames=moment)
        assert before <= delivery.seconds <= seconds + 1e-9
        assert 0 <= delivery.acknowledged <= written - ALLOWANCE
        before = delivery.seconds
    delivery.observe(len(story), connection(written))
    assert delivery.seconds == pytest.approx(seconds)
    assert delivery.acknowledged == written - ALLOWANCE


@given(st.lists(st.integers(0, 10**7), min_size=1))
def test_counters_never_fall_even_if_the_kernels_do(counts: list[int]) -> None:
    delivery = begun()
    before = 0
    for moment, count in enumerate(counts):
        delivery.observe(moment, connection(count))
        assert delivery.acknowledged >= before
        before = delivery.acknowledged


def test_a_rate_is_of_the_last_seconds() -> None:
    rate = Rate(window=5.0)
    for tick in range(40):
        rate.add(tick / 4, tick * 1000)
    assert rate.per_second() == pytest.approx(4000)
    for tick in range(40, 61):
        rate.add(tick / 4, 39_000)
    assert rate.per_second() == 0.0


def test_a_burst_is_spread_over_a_second() -> None:
    rate = Rate()
    rate.add(0.0, 0)
    rate.add(0.01, 1000)
    assert rate.per_second() == 1000


def test_the_allowance_covers_what_was_measured() -> None:
    # Bytes acknowledged before the first byte of media: nginx-rtmp, keys of 24 and 42 letters.
    plain = Job(
        session_id="s",
        generation=1,
        source="/m.mp4",
        destination="rtmp://127.0.0.1:45185/live",
        stream_key="K" * 24,
    )
    secure = Job(
        session_id="s",
        generation=1,
        source="/m.mp4",
        destination="rtmps://localhost:59341/live",
        stream_key="K" * 42,
    )
    assert 3459 < allowance(plain) < 3459 + 2000
    assert 5493 < allowance(secure) < 5493 + 3000
