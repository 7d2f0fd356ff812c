from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.backoff import Backoff
from encoder.job import Limits

LIMITS = Limits(backoff_first=1, backoff_max=60, jitter=0.3, healthy=120, barren_attempts=5)


def delays(backoff: Backoff, outcomes: Sequence[float | None]) -> list[float | None]:
    return [backoff.failed(delivering=one) for one in outcomes]


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(LIMITS, draw=lambda: 0.0)
    assert delays(backoff, [5.0] * 9) == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_healthy_connection_begins_anew() -> None:
    backoff = Backoff(LIMITS, draw=lambda: 0.0)
    assert delays(backoff, [5.0, 5.0, 5.0, 120.0, 5.0]) == [1, 2, 4, 1, 2]


def test_barren_attempts_in_a_row_end_it() -> None:
    backoff = Backoff(LIMITS, draw=lambda: 0.0)
    assert delays(backoff, [None] * 5) == [1, 2, 4, 8, None]


def test_a_byte_of_media_renews_hope() -> None:
    backoff = Backoff(LIMITS, draw=lambda: 0.0)
    assert None not in delays(backoff, [None, None, None, None, 0.0] * 20)


@given(st.lists(st.none() | st.floats(0, 1e6)), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_in_its_share_below_the_cap(outcomes: list[float | None], drawn: float) -> None:
    backoff = Backoff(LIMITS, draw=lambda: drawn)
    for outcome in outcomes:
        delay = backoff.failed(delivering=outcome)
        if delay is None:
            break
        assert LIMITS.backoff_first * (1 - LIMITS.jitter) <= delay <= LIMITS.backoff_max


def test_even_after_a_year_of_failures_the_cap_holds() -> None:
    backoff = Backoff(LIMITS, draw=lambda: 0.0)
    assert delays(backoff, [1.0] * 5000)[-1] == 60


def test_jitter_shortens_by_the_share_drawn() -> None:
    assert Backoff(LIMITS, draw=lambda: 0.5).failed(delivering=1.0) == pytest.approx(0.85)
