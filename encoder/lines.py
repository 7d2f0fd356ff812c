"""ffmpeg's own output: cut into lines, the key scrubbed, a flood dammed. Pure."""

from typing import Final

#: What takes the place of the key.
SCRUBBED: Final = "[key]"
#: A longer line is cut. It is scrubbed first, so no cut leaves a part of the key.
LONGEST: Final = 1024
#: Bytes kept of a line without an end.
BUFFER: Final = 64 * 1024


class LineReader:
    """Turns a pipe's bytes into scrubbed lines, however they are torn.

    The key is taken out literally of every line, wherever it stands: this is the
    one place all of ffmpeg's text passes through.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._rest = b""
        #: The rest of an overlong line is being dropped.
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """The lines completed by these bytes."""
        *ended, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for line in ended:
            if not self._skipping:
                lines.append(self._clean(line))
            self._skipping = False
        if len(self._rest) > BUFFER:
            if not self._skipping:
                lines.append(self._clean(self._rest))
            self._skipping, self._rest = True, b""
        return [line for line in lines if line]

    def end(self) -> list[str]:
        """What was left without a line end."""
        return self.feed(b"\n")

    def _clean(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace").strip()
        return text.replace(self._key, SCRUBBED)[:LONGEST]


class FloodGuard:
    """Lets a burst of lines through and then only so many per second."""

    def __init__(self, *, burst: float = 50, per_second: float = 5) -> None:
        self._burst = burst
        self._per_second = per_second
        self._allowed = burst
        self._at = 0.0
        self._dropped = 0

    def admit(self, now: float, line: str) -> list[str]:
        """What may be passed on: nothing, or the line, after a word on those before it that were not."""
        self._allowed = min(self._burst, self._allowed + (now - self._at) * self._per_second)
        self._at = now
        if self._allowed < 1:
            self._dropped += 1
            return []
        self._allowed -= 1
        dropped, self._dropped = self._dropped, 0
        return [f"({dropped} lines left out)", line] if dropped else [line]
