"""What is left to the worker once it has confined itself, tried out from inside."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import mmap, os, resource, socket, sys
from services.streams.media import worker
os.closerange(3, 100)
if sys.argv[1] == "confined":
    worker.confine()
try:
    {attempt}
except (OSError, ValueError) as error:
    print(type(error).__name__)
else:
    print("done")
"""


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        # Standard input is a file open for writing, descriptor 3 the media file.
        pytest.param("os.write(0, b'x')", "OSError", id="write to a file"),
        pytest.param("[os.dup(0), open('/etc/passwd')]", "OSError", id="open another file"),
        pytest.param("[os.dup(0), socket.socket()]", "OSError", id="make a socket"),
        pytest.param("os.fork() or os._exit(0)", "BlockingIOError", id="start a process"),
        pytest.param("mmap.mmap(-1, 2 << 30)", "OSError", id="take 2 GiB"),
        pytest.param("resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))", "ValueError", id="raise a limit"),
    ],
)
def test_confined_worker_cannot(tmp_path: Path, attempt: str, refusal: str) -> None:
    assert attempted(attempt, "confined", tmp_path) == refusal
    assert attempted(attempt, "free", tmp_path) == "done"


@pytest.mark.skipif(
    ctypes.CDLL(None).syscall(444, None, 0, 1) < 4, reason="this kernel has no Landlock for TCP"
)
@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param("open('/etc/passwd')", id="open a file in place of the one in hand"),
        pytest.param("socket.create_server(('127.0.0.1', 0))", id="listen"),
        pytest.param("os.kill(os.getppid(), 0)", id="signal another process"),
    ],
)
def test_code_that_took_over_the_worker_cannot(tmp_path: Path, attempt: str) -> None:
    assert attempted(attempt, "confined", tmp_path) == "PermissionError"
    assert attempted(attempt, "free", tmp_path) == "done"


def test_confined_worker_can_hold_the_one_file(tmp_path: Path) -> None:
    assert attempted("os.dup(0)", "confined", tmp_path) == "done"


def attempted(attempt: str, how: str, folder: Path) -> str:
    """What became of it: the name of an error, or "done"."""
    with (folder / "writable").open("wb") as writable:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(attempt=attempt), how],
            stdin=writable,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    return done.stdout.strip()
