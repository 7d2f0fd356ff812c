"""One detached encoder process per stream, where no container engine is reachable.

Each has a folder of its own below the state folder, named for its session and
generation. All that is known of an encoder is in there or in the kernel, so
any runtime opened on the same state folder takes over whatever runs:

    record.json    who it is, and which process launched it
    encoder.json   the encoder's own process, written before it gets its job
    output         what it writes, reports among it; kept short by whoever follows
    exit           its exit code, where its parent lived to see it
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO, Any, Final, TypeVar
from uuid import UUID, uuid4

import encoder
from encoder.exits import ExitCode
from encoder.job import Job
from encoder.report import LogLine, State
from services.streams.runtime import Container, ContainerState, EngineUnavailable, Launch, LaunchRefused
from services.streams.runtime.orders import job_of
from services.streams.runtime.processes import ProcessId, identify
from services.streams.runtime.reports import Hints, Reports, last_log_lines, last_report

__all__ = ["ProcessConfig", "ProcessRuntime"]

#: Enough of an output's end to hold the latest report below a burst of log lines.
_TAIL_BYTES: Final = 1 << 16
#: Log lines kept when an output is cut.
_KEPT_LINES: Final = 50
#: Seconds between looks at the outputs; a look costs one stat per encoder.
_LOOK: Final = 0.2
#: Looks between two questions whether an encoder still lives, and what else there is.
_LOOKS_PER_ROUND: Final = 5
#: Seconds after which an unfinished folder is surely nobody's.
_ABANDONED: Final = 60.0
#: Seconds a launch needs at most between its folder and its process.
_LAUNCH: Final = 5.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessConfig:
    """One state folder, and how to run an encoder."""

    #: Of this deployment alone; made where it is missing.
    folder: Path
    ffmpeg: Path
    python: str = sys.executable
    #: An output longer than this is cut; a report is ~400 bytes a second.
    output_bytes: int = 4 << 20
    #: Calls at once, and beside them stops at once, which take seconds.
    calls: int = 4
    stops: int = 16

    def command(self) -> Sequence[str]:
        """What an encoder is run with; neither site-packages nor environment reach it."""
        program = str(Path(encoder.__file__).parent)
        return self.python, "-I", "-S", program, "--ffmpeg", str(self.ffmpeg)


class ProcessRuntime:
    """`Runtime` over plain processes: blocking file and process calls in a bounded number of threads.

    Beside them one thread follows all outputs. Raises EngineUnavailable where
    the state folder cannot be read or written.
    """

    name = "process"

    def __init__(self, config: ProcessConfig) -> None:
        config.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._config = config
        self._calls = ThreadPoolExecutor(config.calls, thread_name_prefix="process-call")
        # Apart, because stops take seconds and launches must not wait for them.
        self._stops = ThreadPoolExecutor(config.stops, thread_name_prefix="process-stop")
        self._hints = Hints()
        self._reports = Reports(self._hints)
        self._encoders: dict[str, _Encoder] = {}
        self._lock = Lock()
        self._closing = Event()
        self._follower = Thread(target=self._follow, name="process-follow", daemon=True)
        self._follower.start()

    async def launch(self, order: Launch) -> Container:
        return await self._call(self._launch, order)

    async def list(self) -> Sequence[Container]:
        return await self._call(self._list)

    async def stop(self, container_id: str) -> None:
        await self._call(self._stop, container_id, pool=self._stops)

    async def remove(self, container_id: str) -> None:
        await self._call(self._remove, container_id)

    async def logs(self, container_id: str, *, limit: int) -> Sequence[LogLine]:
        return await self._call(self._logs, container_id, limit)

    def hints(self) -> AsyncIterator[UUID]:
        return self._hints.listen()

    async def close(self) -> None:
        self._closing.set()
        self._hints.close()
        self._stops.shutdown(wait=False, cancel_futures=True)
        self._calls.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._follower.join)

    async def _call(
        self, call: Callable[..., _T], *args: object, pool: ThreadPoolExecutor | None = None
    ) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(pool or self._calls, partial(call, *args))

    def _launch(self, order: Launch) -> Container:
        job = job_of(order, str(order.media_folder))
        if not order.media_folder.is_dir():
            raise LaunchRefused("media_folder: not a folder")
        # No mount confines this encoder, so a link must not lead it out either.
        if not Path(job.source).resolve().is_relative_to(order.media_folder.resolve()):
            raise LaunchRefused("source: leads out of the media folder")
        home = self._config.folder / f"{order.session_id}-{order.generation}"
        with _on_disk():
            if not self._claim(home, order):
                found = self._encoder(home.name)
                if found is None:
                    raise EngineUnavailable(f"{home.name}: removed in the moment of its launch")
                return found.observe()
            try:
                reaper = _spawn(self._config.command(), home, job)
            except (OSError, LaunchRefused):
                shutil.rmtree(home, ignore_errors=True)
                raise
        launched = self._encoder(home.name)
        if launched is None:
            raise EngineUnavailable(f"{home.name}: removed in the moment of its launch")
        launched.reaper = reaper
        self._hints.give(order.session_id)
        return launched.observe()

    def _claim(self, home: Path, order: Launch) -> bool:
        """Whether the folder is now ours; False where somebody has it.

        Renaming a folder with something in it onto another one fails where that
        has something in it too, and so is a folder never seen without its record.
        """
        draft = home.with_name(f".{home.name}.{uuid4().hex}")
        draft.mkdir(mode=0o700)
        record = _Record(
            session_id=str(order.session_id),
            generation=order.generation,
            launch=uuid4().hex,
            launcher=identify(os.getpid()),
            patience=order.limits.stop_first + order.limits.stop_second + 2.0,
        )
        (draft / "record.json").write_text(json.dumps(asdict(record)))
        try:
            draft.rename(home)
        except OSError:
            shutil.rmtree(draft)
            if not home.is_dir():
                raise
            return False
        return True

    def _list(self) -> Sequence[Container]:
        return [one.observe() for one in self._all()]

    def _stop(self, container_id: str) -> None:
        found = self._encoder(container_id)
        if found is not None:
            found.stop()

    def _remove(self, container_id: str) -> None:
        found = self._encoder(container_id)
        if found is None or found.observe().state is not ContainerState.EXITED:
            return
        with _on_disk():
            # Away in one step: half a folder would be one nobody can explain.
            gone = found.home.with_name(f".{container_id}.{uuid4().hex}")
            with suppress(FileNotFoundError):
                found.home.rename(gone)
                shutil.rmtree(gone)
        self._forget(container_id)
        self._hints.give(found.session_id)

    def _logs(self, container_id: str, limit: int) -> Sequence[LogLine]:
        found = self._encoder(container_id)
        return [] if found is None else last_log_lines(found.output(), limit)

    def _all(self) -> "Sequence[_Encoder]":
        # One launched while the folder is read may not be among the names, yet is not gone.
        before = set(self._encoders)
        with _on_disk():
            names = os.listdir(self._config.folder)
        for name in names:
            if name.startswith("."):
                _sweep(self._config.folder / name)
        for gone in before.difference(names):
            self._forget(gone)
        found = (self._encoder(name) for name in names if not name.startswith("."))
        return [one for one in found if one is not None]

    def _encoder(self, name: str) -> "_Encoder | None":
        """None where there is none of that name."""
        with self._lock:
            with _on_disk():
                record = _Record.read(self._config.folder, name)
            if record is None:
                return None
            known = self._encoders.get(name)
            if known is not None and known.record == record:
                return known
            made = _Encoder(self._config, name, record, self._reports, self._hints)
            self._encoders[name] = made
            return made

    def _forget(self, name: str) -> None:
        with self._lock:
            self._encoders.pop(name, None)
        self._reports.forget(name)

    def _follow(self) -> None:
        """Reads what encoders write, quicker than anybody lists."""
        look = 0
        while not self._closing.wait(_LOOK):
            look += 1
            # Without its folder there is nothing to see; whoever calls hears of it.
            with suppress(EngineUnavailable):
                if look % _LOOKS_PER_ROUND == 0:
                    self._list()
                else:
                    for one in tuple(self._encoders.values()):
                        one.glance()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    session_id: str
    generation: int
    #: Tells this one from another of the same name, removed before.
    launch: str
    launcher: ProcessId
    #: Seconds between asking it to end and insisting.
    patience: float

    @classmethod
    def read(cls, folder: Path, name: str) -> "_Record | None":
        # A missing home is one thing, a missing state folder another.
        os.stat(folder)
        try:
            record: dict[str, Any] = json.loads((folder / name / "record.json").read_bytes())
            return cls(**{**record, "launcher": ProcessId(**record["launcher"])})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            return None


class _Encoder:
    """One encoder as its folder and the kernel know it; used by several threads."""

    def __init__(
        self,
        config: ProcessConfig,
        name: str,
        record: _Record,
        reports: Reports,
        hints: Hints,
    ) -> None:
        self.home = config.folder / name
        self.session_id = UUID(record.session_id)
        self._name = name
        self.record = record
        self._limit = config.output_bytes
        self._reports = reports
        self._hints = hints
        #: Waits for the child's exit code, where the child is ours.
        self.reaper: Thread | None = None
        self._lock = Lock()
        self._process: ProcessId | None = None
        self._started_at: datetime | None = None
        #: How far the output is read; None before the first look.
        self._offset: int | None = None
        self._torn = b""
        self._exited = False

    def observe(self) -> Container:
        with self._lock, _on_disk():
            state = self._look()
            return Container(
                id=self._name,
                session_id=self.session_id,
                generation=self.record.generation,
                state=state,
                started_at=self._started_at,
                exit_code=self._exit_code() if state is ContainerState.EXITED else None,
                report=self._reports.latest(self._name),
            )

    def glance(self) -> None:
        """Reads on, without asking whether it lives."""
        with self._lock, _on_disk():
            if self._process is not None and not self._exited:
                self._read()

    def output(self) -> bytes:
        try:
            return (self.home / "output").read_bytes()
        except FileNotFoundError:
            return b""

    def stop(self) -> None:
        """Returns when nothing of it runs any more."""
        process = self._spawned()
        if process is None:
            return
        if not process.end(patience=self.record.patience):
            raise EngineUnavailable(f"{self._name}: it survived SIGKILL")
        self.observe()

    def _spawned(self) -> ProcessId | None:
        """Its process, or that of a launch under way; None where a launch broke off."""
        deadline = time.monotonic() + _LAUNCH
        while time.monotonic() < deadline:
            if self.observe().state is not ContainerState.CREATED:
                return self._process
            time.sleep(0.01)
        raise EngineUnavailable(f"{self._name}: its launch goes on for too long")

    def _look(self) -> ContainerState:
        # In this order: what a launcher wrote before it died is seen, and what a
        # dead encoder wrote is then all there is to read.
        launching = self._process is None and self.record.launcher.lives()
        self._identify()
        if self._process is None:
            return ContainerState.CREATED if launching else ContainerState.EXITED
        if self._exited:
            return ContainerState.EXITED
        lives = self._process.lives()
        self._read()
        if lives:
            return ContainerState.RUNNING
        self._exited = True
        self._hints.give(self.session_id)
        return ContainerState.EXITED

    def _identify(self) -> None:
        if self._process is not None:
            return
        with suppress(FileNotFoundError):
            record = json.loads((self.home / "encoder.json").read_bytes())
            self._process = ProcessId(**record["process"])
            self._started_at = datetime.fromtimestamp(record["at"], UTC)

    def _read(self) -> None:
        with suppress(FileNotFoundError), open(self.home / "output", "rb") as output:
            size = os.fstat(output.fileno()).st_size
            if self._offset is None:
                self._offset = max(0, size - _TAIL_BYTES)
            if size < self._offset:  # another runtime has cut it
                self._offset, self._torn = 0, b""
            if size == self._offset:
                return
            output.seek(self._offset)
            fresh = output.read()
            self._offset += len(fresh)
            whole, _, self._torn = (self._torn + fresh).rpartition(b"\n")
            report = last_report(whole)
            if report is not None:
                self._reports.put(self._name, self.session_id, report)
            if self._offset > self._limit:
                self._cut()

    def _cut(self) -> None:
        """Keeps the last log lines, and no report: the next one comes within a second.

        The encoder appends all the while. A line of it may be lost in between,
        or stand before those kept: for a log line no matter, for an old report
        after a newer one it would be.
        """
        kept = last_log_lines(self.output(), _KEPT_LINES)
        path = self.home / "output"
        os.truncate(path, 0)
        with open(path, "ab") as output:
            output.write("".join(f"{line.to_line()}\n" for line in kept).encode())
        self._offset, self._torn = None, b""

    def _exit_code(self) -> int | None:
        if self._process is None:
            return None
        if self.reaper is not None:
            self.reaper.join(timeout=1.0)
        try:
            return int((self.home / "exit").read_text())
        except (FileNotFoundError, ValueError):
            # Adopted: nobody saw it but its own last word tells.
            report = self._reports.latest(self._name)
            if report is None or report.state is not State.ENDED:
                return None
            return ExitCode.STOPPED if report.cause is None else ExitCode.GAVE_UP


def _spawn(command: Sequence[str], home: Path, job: Job) -> Thread:
    """Starts the encoder; the thread returned waits for its exit code.

    Its process is on record before it has its job. Whoever crashes in between
    leaves an encoder that ends by itself, because no job comes.
    """
    read_end, write_end = os.pipe()
    with open(write_end, "wb", buffering=0) as channel:
        with open(read_end, "rb") as job_end, open(home / "output", "ab") as output:
            child = _start(command, stdin=job_end, stdout=output)
        # Before the reaper begins: until then even one that is dead already keeps its pid.
        process = identify(child.pid)
        reaper = Thread(target=_reap, args=(child, home / "exit"), name=f"reap-{child.pid}", daemon=True)
        reaper.start()
        _write(home / "encoder.json", {"process": asdict(process), "at": time.time()})
        with suppress(BrokenPipeError):
            channel.write(job.to_json().encode() + b"\n")
    return reaper


def _start(command: Sequence[str], *, stdin: IO[bytes], stdout: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 - a list of our own making, no shell
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stdout,
            cwd="/",
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            # Neither the terminal's signals nor the end of this process reach it.
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise LaunchRefused(f"the encoder cannot be started: {error}") from error


def _reap(child: "subprocess.Popen[bytes]", path: Path) -> None:
    code = child.wait()
    # Its folder may be gone by then.
    with suppress(FileNotFoundError):
        path.write_text(str(code if code >= 0 else 128 - code))


def _write(path: Path, record: object) -> None:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(record))
    draft.rename(path)


def _sweep(abandoned: Path) -> None:
    """Removes what a crash left of a folder never finished, or never wholly removed."""
    with suppress(FileNotFoundError):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED:
            shutil.rmtree(abandoned, ignore_errors=True)


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineUnavailable(f"the state folder: {error}") from error
