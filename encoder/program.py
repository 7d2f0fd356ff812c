"""The program: options, the job, its first ffmpeg, and then the supervisor."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from encoder.child import Child
from encoder.command import arguments
from encoder.events import Events, Stop
from encoder.exits import ExitCode
from encoder.job import InvalidJob, Job

USAGE: Final = """\
usage: python3 -I -S encoder [--job FILE] [--ffmpeg PATH] [--ca-file PATH]

  --job FILE      the job, one JSON object; standard input if not given
  --ffmpeg PATH   the ffmpeg to run (/usr/bin/ffmpeg)
  --ca-file PATH  the certificates rtmps servers are verified against (the system's)
"""

#: A job comes at once or not at all, seconds.
PATIENCE: Final = 10.0
LARGEST_JOB: Final = 64 * 1024

#: Where distributions keep their certificates: Debian and Alpine, Fedora, openSUSE.
CA_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
)


class Refusal(Exception):
    """The program cannot begin; the text is for its standard error."""

    def __init__(self, code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.code = code


class Options(NamedTuple):
    job: str | None = None
    ffmpeg: str = "/usr/bin/ffmpeg"
    ca_file: str | None = None


def main(argv: list[str]) -> int:
    """Exit codes: see ExitCode."""
    events = Events()
    stop = Stop(events)
    try:
        options = parse(argv)
        text = read_file(options.job) if options.job else read_line(0, events, stop)
        if text is None:
            return ExitCode.STOPPED
        job = Job.from_json(text)
    except Refusal as refusal:
        print(f"encoder: {refusal}", file=sys.stderr)
        return refusal.code
    except InvalidJob as error:
        print(f"encoder: {error}", file=sys.stderr)
        return ExitCode.INVALID_JOB
    spawn = begin(job, options)
    # Only now: what watches an ffmpeg takes as long to import as one to load.
    from encoder.outlet import Outlet
    from encoder.supervisor import Supervisor

    return Supervisor(job, spawn=spawn, events=events, stop=stop, outlet=Outlet(1)).run()


def begin(job: Job, options: Options) -> Callable[[], Child]:
    """Starts the first ffmpeg; returns what gives that one at its first call, and at each further a new one.

    If the host cannot start one, the first call tries again, and says so.
    """
    ca_file = options.ca_file or next(filter(os.path.exists, CA_FILES), None)

    def spawn() -> Child:
        return Child(lambda fd: arguments(job, ffmpeg=options.ffmpeg, progress_fd=fd, ca_file=ca_file))

    begun: list[Child] = []
    with suppress(OSError):
        begun.append(spawn())
    return lambda: begun.pop() if begun else spawn()


def parse(argv: list[str]) -> Options:
    """By hand: argparse takes as long to import as all the rest. Raises Refusal."""
    given: dict[str, str] = {}
    names = {"--job": "job", "--ffmpeg": "ffmpeg", "--ca-file": "ca_file"}
    words = iter(argv)
    for word in words:
        value = next(words, None)
        if word not in names or value is None:
            raise Refusal(ExitCode.USAGE, USAGE)
        given[names[word]] = value
    options = Options(**given)
    if not os.access(options.ffmpeg, os.X_OK):
        raise Refusal(ExitCode.USAGE, f"--ffmpeg: {options.ffmpeg} is not a program that can be run")
    return options


def read_file(path: str) -> str:
    """A secret file, as Swarm mounts it. Raises Refusal."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST_JOB)
    except OSError as error:
        raise Refusal(ExitCode.NO_JOB, f"--job: {path}: {error.strerror}") from None


def read_line(fd: int, events: Events, stop: Stop, *, patience: float = PATIENCE) -> str | None:
    """One line, or what came before the end; None if asked to stop first. Raises Refusal.

    Whoever gives the job may keep the other end open, so the descriptor is left
    at the line's end and made to lead nowhere.
    """
    until = time.monotonic() + patience
    text = b""
    ended = False

    def read() -> None:
        nonlocal text, ended
        data = os.read(fd, LARGEST_JOB)
        text += data
        ended = not data or b"\n" in data or len(text) > LARGEST_JOB

    events.add(fd, read)
    while not ended and not stop.asked:
        if (left := until - time.monotonic()) <= 0:
            raise Refusal(ExitCode.NO_JOB, f"no job came within {patience:g} seconds")
        events.wait(left)
    events.remove(fd)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, fd)
    os.close(nowhere)
    if not ended:
        return None
    if not text:
        raise Refusal(ExitCode.NO_JOB, "no job came: standard input is empty")
    return text.partition(b"\n")[0].decode("utf-8", "replace")
