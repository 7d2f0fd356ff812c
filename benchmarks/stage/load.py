"""Load on one gRPC method, by h2load: a sixth of a core where a client in Python takes a whole one.

h2load knows HTTP/2 and not gRPC: a refusal is a 200 to it. So every run is held
against what the right answer weighs: the bytes of all bodies must be as many as
that many right answers have.
"""

import asyncio
import re
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figure import NotHere
from benchmarks.statistics import percentile

__all__ = ["PROGRAM", "Call", "LoadFailed", "Run", "load", "require"]

PROGRAM: Final = "h2load"
#: 32 calls in flight keep a server of one process busy all the time.
_CONNECTIONS: Final = 4
_STREAMS: Final = 8


class LoadFailed(RuntimeError):
    """Calls failed, or were answered with something else; no number can be had from the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One unary call, the same every time."""

    #: /package.Service/Method
    path: str
    request: bytes
    #: The right answer.
    response: bytes
    metadata: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came back of one run."""

    requests: int
    per_second: float
    #: Milliseconds from the request to the end of its answer.
    p50: float
    p99: float


def require() -> None:
    """Raises NotHere where no load can be made."""
    if shutil.which(PROGRAM) is None:
        raise NotHere(f"{PROGRAM} is missing (apt-get install nghttp2-client)")


async def load(address: str, call: Call, *, seconds: int, folder: Path) -> Run:
    """As many calls as get through. Raises LoadFailed."""
    body, log = folder / "request", folder / "requests.log"
    body.write_bytes(framed(call.request))
    log.unlink(missing_ok=True)
    headers = [("content-type", "application/grpc"), ("te", "trailers"), *call.metadata]
    process = await asyncio.create_subprocess_exec(
        # Without its warm-up: the bytes of that are counted, its calls are not.
        *(PROGRAM, "-D", str(seconds)),
        *("-c", str(_CONNECTIONS), "-m", str(_STREAMS), "-d", str(body), f"--log-file={log}"),
        *(part for name, value in headers for part in ("-H", f"{name}: {value}")),
        f"http://{address}{call.path}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = output.decode()
    if process.returncode:
        raise LoadFailed(text)
    return read(text, log.read_text(), answer=len(framed(call.response)))


def read(summary: str, log: str, *, answer: int) -> Run:
    """A run from what h2load printed and logged; `answer` is the size of the right one. Raises LoadFailed."""
    rate = _number(r"finished in [\d.]+\w+, ([\d.]+) req/s", summary)
    failed = _number(r"(\d+) failed", summary) + _number(r"(\d+) errored", summary)
    good, data = _number(r"(\d+) 2xx", summary), _number(r"\((\d+)\) data", summary)
    if failed or not good or abs(data - good * answer) > _CUT_OFF * answer:
        raise LoadFailed(f"{data:.0f} bytes of answers, {answer} each\n{summary}")
    latencies = [int(line.split("\t")[2]) / 1000 for line in log.splitlines()]
    return Run(
        requests=int(good), per_second=rate, p50=percentile(latencies, 50), p99=percentile(latencies, 99)
    )


#: Answers that the end of a run may cut off: those in flight.
_CUT_OFF: Final = _CONNECTIONS * _STREAMS


def framed(message: bytes) -> bytes:
    """As gRPC sends it: not compressed, with its length."""
    return struct.pack(">BI", 0, len(message)) + message


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise LoadFailed(text)
    return float(found[1])
