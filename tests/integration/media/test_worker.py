"""The worker's program without its prober: each guard alone, and its end."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.streams.media import worker
from services.streams.media.facts import ANSWER_MAX, READY, Answer, Facts, Unreadable

Convert = Callable[..., Path]
Loosen = Callable[[pytest.MonkeyPatch], None]


def guess_the_format(loose: pytest.MonkeyPatch) -> None:
    loose.setattr(worker, "FORMAT", None)


def allow_every_format(loose: pytest.MonkeyPatch) -> None:
    loose.setattr(worker, "OPTIONS", LOOSE)


#: The whitelist gone, and so is the concat demuxer's own caution.
LOOSE = {"safe": "0"}
CONFINED_ONLY = f"""
from services.streams.media import worker
worker.FORMAT, worker.OPTIONS = None, {LOOSE}
worker.main()
"""


@pytest.fixture
def playlist(convert: Convert) -> Iterator[Path]:
    """It names a video that anybody may read, also who the worker becomes where root starts it."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        other = Path(folder, "other.mp4")
        other.write_bytes(convert("plain.mp4").read_bytes())
        path = Path(folder, "playlist.mp4")
        path.write_text(f"ffconcat version 1.0\nfile '{other}'\n")
        yield path


def examined(path: Path) -> Facts | Unreadable:
    with path.open("rb", buffering=0) as file:
        return worker.examine(file)


@pytest.mark.parametrize("loosen", [guess_the_format, allow_every_format])
def test_named_format_and_whitelist_alone_each_keep_a_playlist_from_reading_another_file(
    playlist: Path, monkeypatch: pytest.MonkeyPatch, loosen: Loosen
) -> None:
    loosen(monkeypatch)
    assert examined(playlist) is Unreadable.PLAYLIST


def test_confinement_alone_keeps_a_playlist_from_reading_another_file(playlist: Path) -> None:
    with asked(CONFINED_ONLY, playlist) as ours:
        assert ours.recv(ANSWER_MAX) == b"", "the worker should have ended"


def test_without_any_guard_a_playlist_reads_another_file(
    playlist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guards are for; were it not so, the tests above would prove nothing."""
    guess_the_format(monkeypatch)
    allow_every_format(monkeypatch)
    found = examined(playlist)
    assert isinstance(found, Facts)
    assert {stream.codec for stream in found.streams} == {"h264", "aac"}


def test_only_decoders_of_what_can_be_sent_see_the_file(convert: Convert) -> None:
    """libx265's picture size is known to its decoder alone."""
    hevc = convert("hevc.mp4", "-c:v", "libx265", "-preset", "ultrafast", "-c:a", "copy")
    with hevc.open("rb", buffering=0) as file:
        found = worker.examine(file)
    assert isinstance(found, Facts)
    assert [(one.codec, one.width) for one in found.streams if one.kind == "video"] == [("hevc", 320)]


def test_file_emptied_meanwhile_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with (tmp_path / "a.mp4").open("rb", buffering=0) as file:
        assert worker.examine(file) is Unreadable.FOREIGN


@contextmanager
def started(program: str) -> Iterator[tuple[socket.socket, "subprocess.Popen[bytes]"]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, subprocess.Popen([sys.executable, "-c", program], stdin=theirs.fileno()) as process:
        theirs.close()
        assert ours.recv(16) == READY
        yield ours, process
        ours.close()


@contextmanager
def asked(program: str, path: Path) -> Iterator[socket.socket]:
    """The socket, once the file has been handed over."""
    with started(program) as (ours, _), path.open("rb") as file:
        socket.send_fds(ours, [b"?"], [file.fileno()])
        yield ours


def test_file_is_answered_for_with_facts(convert: Convert) -> None:
    with asked("from services.streams.media import worker; worker.main()", convert("plain.mp4")) as ours:
        answer = Answer.from_message(ours.recv(ANSWER_MAX))
    assert isinstance(answer.of, Facts)
    assert not answer.last


def test_worker_ends_when_its_socket_is_closed() -> None:
    with started("from services.streams.media import worker; worker.main()") as (ours, process):
        ours.close()
        assert process.wait(10) == 0
