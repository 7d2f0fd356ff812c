"""Exit codes: of this program, and of a child that never became ffmpeg."""

from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """How the program ended; the last three are sysexits.h's."""

    STOPPED = 0
    #: Every attempt for a while was barren; the last report has the cause.
    GAVE_UP = 3
    USAGE = 64
    INVALID_JOB = 65
    NO_JOB = 66


#: As a shell says it.
NOT_STARTED: Final = 127
