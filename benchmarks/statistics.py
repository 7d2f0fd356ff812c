"""What many rounds come to."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Self

__all__ = ["Summary", "percentile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One side of one quantity over all rounds."""

    median: float
    least: float
    most: float
    p50: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Raises ValueError for no values."""
        if not values:
            raise ValueError("no rounds")
        return cls(
            median=median(values),
            least=min(values),
            most=max(values),
            p50=percentile(values, 50),
            p99=percentile(values, 99),
        )


def percentile(values: Sequence[float], rank: float) -> float:
    """The least value that so many per cent of all do not exceed: always one that was measured."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * rank / 100) - 1)]
