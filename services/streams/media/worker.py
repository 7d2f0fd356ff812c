"""The program that parses what strangers upload, in a process that can do nothing else.

    python -m services.streams.media.worker

It is given a socket as standard input. Each message on it brings one open file;
each answer is a `facts.Answer`, after a first message that says it is ready. It
cannot open a file, connect to anything, start a process or write one byte to
disk: a bug in a parser has nothing to work with but that one file.
"""

import ctypes
import errno
import io
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from itertools import islice
from typing import Final

# The stream classes are imported where libav's streams are first wrapped, which
# is after nothing can be opened any more.
import av
import av.audio.stream
import av.logging
import av.subtitles.stream
import av.video.stream

from encoder.job import FORMAT_WHITELIST
from services.streams.media.facts import READY, STREAMS_MAX, Answer, Facts, Stream, Unreadable

#: The only format libav may take the file for, named and not guessed: where it
#: is guessed, an ffconcat text inside an .mp4 reads other files (measured; in
#: older versions an HLS one, too). The whitelist is a second guard against that,
#: and the limit on descriptors a third.
FORMAT: Final = "mov"
#: `codec_whitelist`: the decoders that may look at headers; other codecs are named without.
OPTIONS: Final = {"format_whitelist": FORMAT_WHITELIST, "codec_whitelist": "h264,aac,mp3float"}

#: The index of a 12 h file at 30 fps with AAC takes 0.3 GiB at its peak.
MEMORY_MAX: Final = 1 << 30
#: CPU seconds of a whole life, and after how many of them to end by one's own
#: will. What lies between is the least any file gets: the prober's own patience.
CPU_MAX: Final = 30
CPU_SHARE: Final = 15
#: Standard input, output, error, and the one file in hand: with all four taken
#: nothing else can be opened, also where the kernel has no Landlock.
DESCRIPTORS: Final = 4
NOBODY: Final = 65534

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_NO_NEW_PRIVS: Final = 38

# The numbers are the same on every architecture.
LANDLOCK_CREATE_RULESET: Final = 444
LANDLOCK_RESTRICT_SELF: Final = 446
LANDLOCK_ASK_VERSION: Final = 1
#: How many kinds of file access Landlock's versions 1 to 5 know; later ones know no more.
LANDLOCK_FILE_BITS: Final = (13, 14, 15, 15, 16)
#: Since version 4 it knows two kinds of TCP access, since 6 two of reaching other processes.
LANDLOCK_NETWORK: Final = 4
LANDLOCK_SCOPE: Final = 6

#: So many packets, about a second, hold one of each stream.
PACKETS_MAX: Final = 64


def main() -> None:
    channel = socket.socket(fileno=0)
    av.logging.set_level(av.logging.PANIC)
    confine()
    channel.send(READY)
    last = False
    while not last:
        message, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if not message:
            return
        with open(descriptors[0], "rb", buffering=0) as file:
            found = examine(file)
        last = time.process_time() > CPU_SHARE
        channel.send(Answer(found, last).to_message())


def confine() -> None:
    """Give up everything parsing does not need, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0:
        # Fails in a container that is root without the capability: as confined as can be.
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    for option, value in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_DUMPABLE, 0), (PR_SET_PDEATHSIG, signal.SIGKILL)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    _lock_out(libc)
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY_MAX),
        (resource.RLIMIT_CPU, CPU_MAX),
        (resource.RLIMIT_NOFILE, DESCRIPTORS),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))


class _Ruleset(ctypes.Structure):
    """What Landlock is to forbid; nothing of it is allowed again by a rule."""

    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scope", ctypes.c_uint64))


def _lock_out(libc: ctypes.CDLL) -> None:
    """No files, no TCP, no signals to others, even for code that is not ours any more.

    Kernels before 5.13, and those that have Landlock switched off, are left at that.
    """
    version = libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_ASK_VERSION)
    if version < 1:
        return
    bits = LANDLOCK_FILE_BITS[min(version, len(LANDLOCK_FILE_BITS)) - 1]
    network, scope = version >= LANDLOCK_NETWORK, version >= LANDLOCK_SCOPE
    rules = _Ruleset(files=(1 << bits) - 1, network=0b11 if network else 0, scope=0b11 if scope else 0)
    # Older kernels know a shorter structure, and take a longer one whose rest is zero.
    ruleset = libc.syscall(
        LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(ctypes.sizeof(rules)), 0
    )
    if ruleset < 0 or libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0) != 0:
        raise OSError(ctypes.get_errno(), "landlock")
    os.close(ruleset)


def examine(file: io.FileIO) -> Facts | Unreadable:
    """What the file's header says. Raises OSError when it cannot be read at all."""
    try:
        with av.open(
            file,
            mode="r",
            format=FORMAT,
            container_options=OPTIONS,
            metadata_errors="replace",
            buffer_size=1 << 18,
        ) as container:
            encrypted = _encrypted(container)
            return Facts(
                duration=max(0, container.duration or 0),
                streams=tuple(
                    _stream(one, one.index in encrypted) for one in islice(container.streams, STREAMS_MAX)
                ),
            )
    except (av.FFmpegError, OSError) as error:
        # EINVAL: a seek past the end of a file that shrinks under our hands.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        return _unreadable(file)


def _stream(stream: av.stream.Stream, encrypted: bool) -> Stream:
    context = stream.codec_context
    last = stream.index_entries[-1] if len(stream.index_entries) else None
    return Stream(
        kind="cover" if av.stream.Disposition.attached_pic in stream.disposition else stream.type,
        codec=context.codec.canonical_name if context else "unknown",
        width=context.width if isinstance(context, av.VideoCodecContext) else 0,
        height=context.height if isinstance(context, av.VideoCodecContext) else 0,
        fps=float(stream.average_rate or 0) if isinstance(stream, av.VideoStream) else 0.0,
        rate=context.sample_rate if isinstance(context, av.AudioCodecContext) else 0,
        channels=context.channels if isinstance(context, av.AudioCodecContext) else 0,
        packets=len(stream.index_entries),
        end=last.pos + last.size if last else 0,
        encrypted=encrypted,
    )


def _encrypted(container: av.container.InputContainer) -> set[int]:
    """Which streams need a key; libav names only the codec inside, and tells by the packet."""
    found, seen = set(), set()
    for packet in islice(container.demux(), PACKETS_MAX):
        seen.add(packet.stream_index)
        if packet.has_sidedata("encryption_info"):
            found.add(packet.stream_index)
        if len(seen) == len(container.streams):
            break
    return found


def _unreadable(file: io.FileIO) -> Unreadable:
    """Why, by the first bytes: a playlist names itself there, and so does an MP4."""
    file.seek(0)
    head = file.read(256)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"#EXTM3U", b"ffconcat")):
        return Unreadable.PLAYLIST
    return Unreadable.CUT if head[4:8] in (b"ftyp", b"moov", b"mdat") else Unreadable.FOREIGN


if __name__ == "__main__":
    main()
