"""The words figures are written in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Bar", "Figure", "NotHere", "Quantity", "Reading", "Sides"]

#: What one round of one side gave, by quantity name. Other names are details, kept with the rounds.
Reading = Mapping[str, float]


class NotHere(Exception):
    """This machine lacks what the figure needs; the text says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What the ratio ours/floor has to be."""

    ratio: float
    #: At least that much, else at most.
    at_least: bool = False

    def met_by(self, ratio: float) -> bool:
        return ratio >= self.ratio if self.at_least else ratio <= self.ratio

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.ratio:.3g} x the floor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One number that is read off each round."""

    #: As printed: a word.
    name: str
    title: str
    #: As printed: a word.
    unit: str
    bar: Bar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Both sides, warmed up. Each call is one round of it."""

    ours: Callable[[], Awaitable[Reading]]
    floor: Callable[[], Awaitable[Reading]]
    #: What a reader of the numbers should know: versions, sizes, the load.
    facts: Mapping[str, str] = field(default_factory=dict)


class Figure(Protocol):
    """One comparison. All numbers of it come from the same rounds."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def ours(self) -> str:
        """What ours does, a sentence."""
        ...

    @property
    def floor(self) -> str:
        """What it is held against, a sentence."""
        ...

    @property
    def quantities(self) -> Sequence[Quantity]: ...
    @property
    def rounds(self) -> int:
        """How many of each side make the medians steady."""
        ...

    def sides(self) -> AbstractAsyncContextManager[Sides]:
        """Sets both sides up, and takes them down. Raises NotHere on entering."""
        ...
