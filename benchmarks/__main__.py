"""python -m benchmarks [--only NAME_PREFIX] [--list] [--rounds N] [--into FOLDER]"""

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Final

from benchmarks import chart
from benchmarks.figure import Figure, NotHere
from benchmarks.figures import FIGURES
from benchmarks.measurement import Measurement, measure

_INTO: Final = Path(__file__).parents[1] / "docs" / "benchmarks"


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 unless a figure that was asked for by name cannot be measured here."""
    given = _parser().parse_args(arguments)
    chosen = choose(given.only or "")
    if given.list:
        for figure in chosen:
            print(f"{figure.name}: {figure.title}")
        return 0
    if not chosen:
        _tell(
            f"no figure's name begins with {given.only}; there are {', '.join(one.name for one in FIGURES)}"
        )
        return 1
    cannot = 0
    for figure in chosen:
        try:
            found = asyncio.run(measure(figure, rounds=given.rounds or figure.rounds, tell=_tell))
        except NotHere as reason:
            _tell(f"{figure.name}: not measured here: {reason}")
            cannot += 1
            continue
        for result in found.results:
            print(result.line(), flush=True)
        keep(found, given.into)
    return int(given.only is not None and cannot > 0)


def choose(prefix: str) -> list[Figure]:
    """The figures whose own name, or that of a quantity of theirs, begins so."""
    return [
        figure
        for figure in FIGURES
        if any(name.startswith(prefix) for name in (figure.name, *(each.name for each in figure.quantities)))
    ]


def keep(found: Measurement, folder: Path) -> None:
    """The rounds as JSON, the medians as a chart."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.document(), indent=2, ensure_ascii=False)
    (folder / f"{found.figure.name}.json").write_text(text + "\n", encoding="utf-8")
    chart.draw(found, folder / found.figure.name)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Figures of this machine: ours against the floor."
    )
    parser.add_argument("--only", metavar="PREFIX", help="figures whose name begins so")
    parser.add_argument("--list", action="store_true", help="name them and measure nothing")
    parser.add_argument("--rounds", type=int, metavar="N", help="of each side, not the figure's own number")
    parser.add_argument("--into", type=Path, default=_INTO, metavar="FOLDER", help="default: docs/benchmarks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
