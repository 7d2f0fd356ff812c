"""The machine a figure was measured on, as far as numbers depend on it."""

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

__all__ = ["Machine"]

_PACKAGES = ("grpcio", "protobuf", "asyncpg", "uvloop", "opentelemetry-sdk")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Nothing here tells whose it is: no host name, no path."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    kernel: str
    python: str
    packages: dict[str, str]
    #: Runnable processes over the last minute, before we began: above zero, others were at work.
    load_before: float

    @classmethod
    def here(cls) -> Self:
        return cls(
            processor=_processor(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            system=platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
            kernel=platform.release(),
            python=platform.python_version(),
            packages={name: version(name) for name in _PACKAGES},
            load_before=round(os.getloadavg()[0], 2),
        )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return " ".join(value.split())
    return platform.machine()
