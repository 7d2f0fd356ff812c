"""Programs that figures are performed on: started, told from each other, ended."""

from pathlib import Path

import psutil
import pytest

from benchmarks.stage.collector import collecting
from benchmarks.stage.programs import ProgramFailed, program


async def test_one_that_does_not_come_up_shows_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ProgramFailed, match="IndexError"):
        async with program("benchmarks.floors.getsession", log=tmp_path / "log"):
            pytest.fail("it was given no database")


async def test_one_that_is_ready_answers_and_is_gone_afterwards(tmp_path: Path) -> None:
    async with program("benchmarks.stage.collector", log=tmp_path / "log") as running:
        assert psutil.Process(running.pid).net_connections()[0].laddr.port == running.port
    assert not psutil.pid_exists(running.pid)


async def test_what_our_own_environment_says_of_tracing_is_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with program("benchmarks.stage.collector", log=tmp_path / "log") as running:
        assert "OTEL_TRACES_SAMPLER" not in psutil.Process(running.pid).environ()


async def test_collector_counts_nothing_that_it_was_not_given(tmp_path: Path) -> None:
    async with collecting(tmp_path) as collector:
        assert await collector.spans() == 0
        assert collector.environment(sampler="always_on") == {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector.address}",
            "OTEL_TRACES_SAMPLER": "always_on",
        }
