"""ffmpeg's -progress output: blocks of key=value lines."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What ffmpeg says it has handed over. Evidence of effort, not of delivery."""

    #: Media time, from the start of this run, loops counted on.
    seconds: float
    frames: int
    dropped_frames: int


class ProgressReader:
    """Turns the pipe's bytes into blocks, however they are torn."""

    def __init__(self) -> None:
        self._rest = b""
        self._block: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> list[Progress]:
        """The blocks completed by these bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        found = []
        for line in lines:
            name, _, value = line.partition(b"=")
            self._block[name] = value
            if name == b"progress":
                found.append(_parse(self._block))
                self._block = {}
        return found


def _parse(block: dict[bytes, bytes]) -> Progress:
    return Progress(
        seconds=max(0, _number(block, b"out_time_us")) / 1_000_000,
        frames=_number(block, b"frame"),
        dropped_frames=_number(block, b"drop_frames"),
    )


def _number(block: dict[bytes, bytes], name: bytes) -> int:
    try:
        return int(block[name])
    except (KeyError, ValueError):
        # "N/A" until the first packet is out.
        return 0
