"""What rounds come to, how a figure is printed and kept, and in what order its sides are measured."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks.figure import Bar, NotHere, Quantity, Reading, Sides
from benchmarks.figures import FIGURES
from benchmarks.measurement import Measurement, Result, measure
from benchmarks.statistics import Summary, percentile

THROUGHPUT = Quantity(name="rate", title="Rate", unit="requests/s", bar=Bar(ratio=0.75, at_least=True))
LATENCY = Quantity(name="rate_p99", title="Latency", unit="ms", bar=Bar(ratio=1.5))
MEMORY = Quantity(name="memory", title="Memory", unit="MiB")


def result(quantity: Quantity, ours: Sequence[float], floor: Sequence[float]) -> Result:
    return Result.of(
        quantity, [{quantity.name: one} for one in ours], [{quantity.name: one} for one in floor]
    )


@dataclass
class Rehearsed:
    """A figure whose rounds are known beforehand."""

    ours_rounds: list[Reading]
    floor_rounds: list[Reading]
    name: str = "rate"
    title: str = "A rate"
    ours: str = "ours"
    floor: str = "the floor"
    quantities: Sequence[Quantity] = (THROUGHPUT, LATENCY)
    turns: list[str] = field(default_factory=list)
    missing: str = ""

    @property
    def rounds(self) -> int:
        return len(self.ours_rounds)

    @asynccontextmanager
    async def sides(self) -> AsyncIterator[Sides]:
        if self.missing:
            raise NotHere(self.missing)
        ours, floor = iter(self.ours_rounds), iter(self.floor_rounds)

        async def take(side: str, rounds: Iterator[Reading]) -> Reading:
            self.turns.append(side)
            return next(rounds)

        yield Sides(
            ours=lambda: take("ours", ours), floor=lambda: take("floor", floor), facts={"load": "none at all"}
        )


@pytest.fixture
def figure() -> Rehearsed:
    return Rehearsed(
        ours_rounds=[round_of(900, 12), round_of(800, 14), round_of(850, 20)],
        floor_rounds=[round_of(1000, 10), round_of(990, 11), round_of(1010, 9)],
    )


def round_of(rate: float, latency: float) -> Reading:
    return {"rate": rate, "rate_p99": latency}


async def measured(figure: Rehearsed) -> Measurement:
    return await measure(figure, rounds=figure.rounds, tell=lambda _: None)


@pytest.mark.parametrize(
    ("values", "rank", "expected"),
    [
        ([3, 1, 2], 50, 2),
        ([1, 2, 3, 4], 50, 2),
        (range(1, 101), 99, 99),
        (range(1, 1001), 99, 990),
        ([7], 99, 7),
    ],
)
def test_percentile_is_a_value_that_was_measured(
    values: Sequence[float], rank: float, expected: float
) -> None:
    assert percentile(values, rank) == expected


def test_summary_of_rounds() -> None:
    assert Summary.of([4, 1, 3, 2]) == Summary(median=2.5, least=1, most=4, p50=2, p99=4)


def test_no_rounds_are_no_figure() -> None:
    with pytest.raises(ValueError, match="no rounds"):
        Summary.of([])


def test_line_of_a_figure() -> None:
    line = result(THROUGHPUT, [3000.4, 2999.6, 3100], [4000, 4001, 3999]).line()
    assert line == "bench rate ours=3000 floor=4000 ratio=0.750 unit=requests/s"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (12.3456, "12.35"), (999.96, "1000"), (123456.7, "123457"), (0, "0")],
)
def test_line_has_the_digits_that_a_machine_repeats(value: float, text: str) -> None:
    assert f" ours={text} " in result(MEMORY, [value], [1]).line()


def test_every_figure_prints_words_that_can_be_taken_apart() -> None:
    for quantity in (each for figure in FIGURES for each in figure.quantities):
        line = result(quantity, [1.5], [1]).line()
        assert re.fullmatch(r"bench \w+ ours=[\d.]+ floor=[\d.]+ ratio=\d+\.\d{3} unit=[^\s=]+", line), line


def test_ratio_is_of_medians_so_one_bad_round_does_not_decide() -> None:
    assert result(MEMORY, [100, 110, 9000], [100, 100, 1]).ratio == pytest.approx(1.1)


def test_ratio_of_pairs_follows_a_machine_that_slows_down() -> None:
    drifting = result(THROUGHPUT, [900, 450, 95], [1000, 500, 100])
    assert drifting.ratio_of_pairs == pytest.approx(0.9)


@pytest.mark.parametrize(("ours", "met"), [(740, False), (750, True), (1200, True)])
def test_bar_of_a_throughput_is_a_least(ours: float, met: bool) -> None:
    assert result(THROUGHPUT, [ours], [1000]).met is met


@pytest.mark.parametrize(("ours", "met"), [(10, True), (15, True), (15.1, False)])
def test_bar_of_a_time_is_a_most(ours: float, met: bool) -> None:
    assert result(LATENCY, [ours], [10]).met is met


def test_figure_without_a_bar_meets_and_misses_none() -> None:
    assert result(MEMORY, [100], [1]).met is None


async def test_sides_take_turns(figure: Rehearsed) -> None:
    await measured(figure)
    assert figure.turns == ["ours", "floor"] * 3


async def test_document_holds_every_round_and_no_name_of_the_machine(figure: Rehearsed) -> None:
    document = json.loads(json.dumps((await measured(figure)).document()))
    assert document["name"] == "rate"
    assert document["rounds"][1] == {"ours": round_of(800, 14), "floor": round_of(990, 11)}
    assert document["facts"] == {"load": "none at all"}
    rate, latency = document["quantities"]
    assert rate["ours"] == {"median": 850, "least": 800, "most": 900, "p50": 850, "p99": 900}
    assert (rate["ratio"], rate["met"], rate["bar"]) == (0.85, True, {"ratio": 0.75, "kind": "at_least"})
    assert (latency["ratio"], latency["met"]) == (1.4, True)
    assert document["machine"].keys() == {
        *("processor", "cores", "memory_gib", "system", "kernel", "python", "packages", "load_before"),
    }
    assert "/" not in document["machine"]["processor"]


async def test_what_is_kept_is_a_document_and_two_charts(figure: Rehearsed, tmp_path: Path) -> None:
    program.keep(await measured(figure), tmp_path / "made")
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "rate.json",
        "rate.png",
        "rate.svg",
    ]
    chart = (tmp_path / "made" / "rate.svg").read_text()
    for text in ("A rate", "0.85 x the floor, line: at least 0.75 x the floor", "1.40 x the floor"):
        assert text in chart


async def test_chart_of_the_same_measurement_is_the_same_file(figure: Rehearsed, tmp_path: Path) -> None:
    found = await measured(figure)
    program.keep(found, tmp_path / "one")
    program.keep(found, tmp_path / "two")
    assert (tmp_path / "one/rate.svg").read_bytes() == (tmp_path / "two/rate.svg").read_bytes()


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("", ["getsession", "getsession_traced", "start_docker", "start_process", "control_plane"]),
        ("getsession", ["getsession", "getsession_traced"]),
        ("getsession_p99", ["getsession"]),
        ("start_", ["start_docker", "start_process"]),
        ("session", []),
    ],
)
def test_only_chooses_by_how_names_begin(prefix: str, names: list[str]) -> None:
    assert [figure.name for figure in program.choose(prefix)] == names


def test_list_names_figures_and_measures_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--list", "--only", "start"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        *("start_docker", "start_process"),
    ]


def test_unknown_name_is_an_error_that_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--only", "nothing"]) == 1
    assert "getsession_traced" in capsys.readouterr().err


class TestOneThatCannotBeMeasuredHere:
    @pytest.fixture(autouse=True)
    def only_figures(self, figure: Rehearsed, monkeypatch: pytest.MonkeyPatch) -> None:
        absent = Rehearsed([], [], name="absent", quantities=[MEMORY], missing="no engine answers")
        monkeypatch.setattr(program, "FIGURES", (absent, figure))

    def test_is_passed_over_with_the_reason(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert program.main(["--into", str(tmp_path)]) == 0
        out, err = capsys.readouterr()
        assert out.splitlines() == [
            "bench rate ours=850 floor=1000 ratio=0.850 unit=requests/s",
            "bench rate_p99 ours=14 floor=10 ratio=1.400 unit=ms",
        ]
        assert "absent: not measured here: no engine answers" in err

    def test_is_an_error_where_it_was_asked_for_by_name(self, tmp_path: Path) -> None:
        assert program.main(["--only", "absent", "--into", str(tmp_path)]) == 1
