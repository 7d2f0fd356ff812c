"""What a deployment says of its Docker Engine. Apart from the SDK, which takes 0.2 s to import."""

from dataclasses import dataclass
from typing import Final

__all__ = ["DockerConfig"]

_MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """One Docker Engine and the shape of the containers given to it."""

    #: The encoder image, by id or tag; it must be there, nothing is pulled.
    image: str
    #: Names this deployment: containers of another one on the same engine are not ours.
    owner: str
    host: str = "unix:///var/run/docker.sock"
    network: str = "bridge"
    user: str = "65534:65534"
    #: ffmpeg and supervisor need ~45 MiB, but the page cache of the image is
    #: charged to the first container (60-79 MiB seen): not below 96 MiB.
    memory_bytes: int = 128 * _MEBIBYTE
    #: In cores. A copied stream takes 1-2 % of one; the rest is for a quick start.
    cpus: float = 1.0
    processes: int = 64
    #: A report is ~400 bytes a second, so this keeps the last hours.
    log_bytes: int = 4 * _MEBIBYTE
    log_files: int = 2
    #: Calls at once, and beside them stops at once, which take seconds.
    calls: int = 8
    stops: int = 16
    #: Seconds.
    call_timeout: float = 30.0
    #: An encoder reports once a second: a stream of reports silent for this long is dead.
    silence: float = 10.0

    def __post_init__(self) -> None:
        if not self.image or not self.owner:
            raise ValueError("image and owner: both must be given")
        for name in (
            "memory_bytes",
            "cpus",
            "processes",
            "log_bytes",
            "log_files",
            "calls",
            "stops",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be positive")
