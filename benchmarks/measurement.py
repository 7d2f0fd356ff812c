"""A figure, measured."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Self

from benchmarks.figure import Figure, Quantity, Reading, Sides
from benchmarks.machine import Machine
from benchmarks.statistics import Summary

__all__ = ["Measurement", "Result", "measure"]

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One quantity, ours against the floor."""

    quantity: Quantity
    ours: Summary
    floor: Summary
    #: Median of the ratios of neighbouring rounds, which a drifting machine moves less.
    ratio_of_pairs: float

    @classmethod
    def of(cls, quantity: Quantity, ours: Sequence[Reading], floor: Sequence[Reading]) -> Self:
        """Raises ValueError for no rounds, KeyError for a round without the quantity."""
        mine = [one[quantity.name] for one in ours]
        theirs = [one[quantity.name] for one in floor]
        return cls(
            quantity=quantity,
            ours=Summary.of(mine),
            floor=Summary.of(theirs),
            ratio_of_pairs=median(a / b for a, b in zip(mine, theirs, strict=True)),
        )

    @property
    def ratio(self) -> float:
        return self.ours.median / self.floor.median

    @property
    def difference(self) -> float:
        return self.ours.median - self.floor.median

    @property
    def met(self) -> bool | None:
        """None where there is no bar."""
        return self.quantity.bar.met_by(self.ratio) if self.quantity.bar else None

    def line(self) -> str:
        return (
            f"bench {self.quantity.name} ours={_short(self.ours.median)} floor={_short(self.floor.median)} "
            f"ratio={self.ratio:.3f} unit={self.quantity.unit}"
        )

    def document(self) -> dict[str, Any]:
        bar = self.quantity.bar
        return {
            "name": self.quantity.name,
            "title": self.quantity.title,
            "unit": self.quantity.unit,
            "ratio": round(self.ratio, 4),
            "ratio_of_pairs": round(self.ratio_of_pairs, 4),
            "difference": self.difference,
            "bar": {"ratio": bar.ratio, "kind": "at_least" if bar.at_least else "at_most"} if bar else None,
            "met": self.met,
            "ours": asdict(self.ours),
            "floor": asdict(self.floor),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All quantities of one figure, and the rounds they come from."""

    figure: Figure
    ours: Sequence[Reading]
    floor: Sequence[Reading]
    facts: dict[str, str]
    machine: Machine
    revision: str
    at: datetime

    @property
    def results(self) -> list[Result]:
        return [Result.of(quantity, self.ours, self.floor) for quantity in self.figure.quantities]

    def document(self) -> dict[str, Any]:
        """Fit for JSON; holds no host name and no path."""
        return {
            "name": self.figure.name,
            "title": self.figure.title,
            "ours": self.figure.ours,
            "floor": self.figure.floor,
            "date": self.at.isoformat(timespec="seconds"),
            "revision": self.revision,
            "machine": asdict(self.machine),
            "facts": self.facts,
            "quantities": [result.document() for result in self.results],
            "rounds": [
                {"ours": dict(ours), "floor": dict(floor)}
                for ours, floor in zip(self.ours, self.floor, strict=True)
            ],
        }


async def measure(figure: Figure, *, rounds: int, tell: Callable[[str], None]) -> Measurement:
    """Ours, floor, ours, floor …; `tell` hears how it goes. Raises NotHere."""
    machine = Machine.here()
    async with figure.sides() as sides:
        ours, floor = await _take_turns(figure, sides, rounds, tell)
    return Measurement(
        figure=figure,
        ours=ours,
        floor=floor,
        facts=dict(sides.facts),
        machine=machine,
        revision=_revision(),
        at=datetime.now(UTC),
    )


async def _take_turns(
    figure: Figure, sides: Sides, rounds: int, tell: Callable[[str], None]
) -> tuple[list[Reading], list[Reading]]:
    ours: list[Reading] = []
    floor: list[Reading] = []
    for number in range(1, rounds + 1):
        ours.append(await sides.ours())
        floor.append(await sides.floor())
        seen = ", ".join(
            f"{one.name} {_short(ours[-1][one.name])} against {_short(floor[-1][one.name])} {one.unit}"
            for one in figure.quantities
        )
        tell(f"{figure.name} {number}/{rounds}: {seen}")
    return ours, floor


def _short(value: float) -> str:
    """Four digits are more than a machine repeats."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _revision() -> str:
    """The commit, marked where the tree differs from it; empty outside a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip()
