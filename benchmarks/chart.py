"""Charts: ours beside the floor, every round a dot, the bar to meet a line."""

from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measurement import Measurement, Result

__all__ = ["draw"]

_OURS: Final = "#2563a8"
_FLOOR: Final = "#b8bec6"
_LINE: Final = "#c2410c"
_INK: Final = "#1f2933"

#: How far apart the first dot and the last are, the bar being 0.55 wide.
_SPREAD: Final = 0.36

#: Text as text, so that it can be searched; the same ids every time, so that a diff shows what changed.
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "streamax",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": "#9aa5b1",
}


def draw(found: Measurement, path: Path) -> None:
    """`path`.png and `path`.svg, one panel per quantity."""
    results = found.results
    with rc_context(_STYLE):
        # Without pyplot: no display is looked for, and nothing global is left behind.
        figure = Figure(figsize=(max(6.4, 4.2 * len(results) + 0.6), 4.8), layout="constrained")
        panels = figure.subplots(1, len(results), squeeze=False)[0]
        figure.suptitle(found.figure.title, fontsize=13, fontweight="bold")
        for panel, result in zip(panels, results, strict=True):
            _panel(panel, result, found)
        figure.supxlabel(_caption(found), fontsize=8, color="#616e7c")
        figure.savefig(path.with_suffix(".png"), dpi=144)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _panel(panel: Axes, result: Result, found: Measurement) -> None:
    name, bar = result.quantity.name, result.quantity.bar
    medians = (result.ours.median, result.floor.median)
    panel.bar((0, 1), medians, width=0.55, color=(_OURS, _FLOOR), zorder=2)
    for place, rounds in ((0, found.ours), (1, found.floor)):
        values = [one[name] for one in rounds]
        # From left to right as they came: a machine that slows down is seen to.
        steps = [place + _SPREAD * (number / max(1, len(values) - 1) - 0.5) for number in range(len(values))]
        panel.scatter(steps, values, s=20, color=_INK, edgecolors="white", linewidths=0.8, zorder=4)
    if bar is not None:
        panel.axhline(
            bar.ratio * result.floor.median, color=_LINE, linewidth=1.6, linestyle=(0, (5, 2)), zorder=3
        )
    panel.set_title(_headline(result), fontsize=9.5, loc="left")
    panel.set_xticks((0, 1), [f"ours\n{_number(medians[0])}", f"floor\n{_number(medians[1])}"])
    panel.set_xlim(-0.6, 1.6)
    panel.set_ylim(bottom=0, top=1.12 * max(_heights(result)))
    panel.set_ylabel(result.quantity.unit)
    panel.grid(axis="y", color="#e4e7eb", linewidth=0.8, zorder=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(length=0)


def _heights(result: Result) -> list[float]:
    bar = result.quantity.bar
    heights = [result.ours.most, result.floor.most]
    return [*heights, bar.ratio * result.floor.median] if bar is not None else heights


def _headline(result: Result) -> str:
    bar, unit = result.quantity.bar, result.quantity.unit
    head = f"{result.quantity.title}\n{result.ratio:.2f} x the floor"
    return f"{head}, line: {bar}" if bar is not None else f"{head}, {result.difference:+.3g} {unit}"


def _caption(found: Measurement) -> str:
    machine = found.machine
    return (
        f"bars: medians of {len(found.ours)} rounds in turns, dots: the rounds\n{machine.processor}, "
        f"{machine.cores} cores · Python {machine.python} · {found.at:%Y-%m-%d} · {found.revision}"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
