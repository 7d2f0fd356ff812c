import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import encoder
from encoder.events import Events, Stop
from encoder.exits import ExitCode
from encoder.program import Options, Refusal, parse, read_file, read_line


class Unasked(Stop):
    """Nobody asks to stop, and no signal handler of the test run is touched."""

    def __init__(self) -> None:
        self.asked = False


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def test_options_are_read() -> None:
    assert parse(["--job", "/j", "--ffmpeg", sys.executable, "--ca-file", "/ca"]) == Options(
        job="/j", ffmpeg=sys.executable, ca_file="/ca"
    )


@pytest.mark.parametrize("argv", [["--help"], ["--job"], ["--jobs", "x"], ["x"]])
def test_other_options_are_refused_with_the_usage(argv: list[str]) -> None:
    with pytest.raises(Refusal, match="usage:") as refusal:
        parse(argv)
    assert refusal.value.code is ExitCode.USAGE


def test_an_ffmpeg_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="--ffmpeg"):
        parse(["--ffmpeg", str(tmp_path / "nothing")])


def test_a_line_is_a_job_though_the_pipe_stays_open(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b'{"job": 1}\nmore')
    assert read_line(reader, Events(), Unasked()) == '{"job": 1}'
    # Whoever writes more finds nobody: the descriptor leads nowhere.
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)


def test_text_without_a_line_end_is_a_job_once_the_pipe_is_closed(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"{}")
    os.close(writer)
    assert read_line(reader, Events(), Unasked()) == "{}"


def test_an_empty_input_is_refused_at_once(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(writer)
    with pytest.raises(Refusal, match="empty") as refusal:
        read_line(reader, Events(), Unasked())
    assert refusal.value.code is ExitCode.NO_JOB


def test_no_job_in_time_is_refused(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    begun = time.monotonic()
    with pytest.raises(Refusal, match="no job came within") as refusal:
        read_line(reader, Events(), Unasked(), patience=0.05)
    assert refusal.value.code is ExitCode.NO_JOB
    assert time.monotonic() - begun < 5
    os.close(writer)


def test_a_stop_ends_the_wait_for_a_job(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stop = Unasked()
    stop.asked = True
    assert read_line(reader, Events(), stop) is None
    os.close(writer)


def test_a_secret_file_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "job").write_text("{}")
    assert read_file(str(tmp_path / "job")) == "{}"
    with pytest.raises(Refusal, match="nothing: No such file") as refusal:
        read_file(str(tmp_path / "nothing"))
    assert refusal.value.code is ExitCode.NO_JOB


def test_what_ffmpeg_does_not_need_is_not_imported_before_it() -> None:
    listing = "import sys; sys.path.append(sys.argv[1]); import encoder.program; print(*sys.modules)"
    root = str(Path(encoder.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", listing, root], capture_output=True, text=True, check=True
    )
    assert not {"encoder.supervisor", "encoder.report", "dataclasses", "inspect"} & {*done.stdout.split()}
