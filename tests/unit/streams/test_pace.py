"""How soon a lost encoder is followed by another."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.streams.reconcile.pace import Pace

NOW = datetime(2026, 11, 22, tzinfo=UTC)
SESSION = UUID(int=1)


def waits(pace: Pace, count: int) -> list[float]:
    """Seconds to wait after each of so many launches in a row."""
    found = []
    for _ in range(count):
        pace.launched(SESSION, NOW)
        found.append((pace.not_before[SESSION] - NOW).total_seconds())
    return found


def test_the_first_relaunch_is_immediate_and_the_following_slow_down_to_a_minute() -> None:
    assert waits(Pace(), 9) == [0, 2, 4, 8, 16, 32, 60, 60, 60]


def test_health_is_rewarded_with_a_fresh_start() -> None:
    pace = Pace()
    waits(pace, 5)
    pace.forget([SESSION])
    assert waits(pace, 1) == [0]


def test_what_is_no_longer_held_is_forgotten() -> None:
    pace = Pace(first=timedelta(seconds=1))
    waits(pace, 3)
    pace.keep(set())
    assert dict(pace.not_before) == {}
