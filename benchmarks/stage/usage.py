"""What a process has used, as the kernel counts it."""

import psutil

__all__ = ["cpu_seconds", "resident_mib"]


def cpu_seconds(pid: int) -> float:
    """User and system time of all its threads since its start; of its children none."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def resident_mib(pid: int) -> float:
    """All of its memory that is in memory, shared pages too."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20
