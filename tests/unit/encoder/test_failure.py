"""ffmpeg 9's own words, as captured for each fault, and what they are made of."""

import errno

import pytest

from encoder.failure import (
    Evidence,
    Phase,
    explain,
    explain_silence,
    explain_stall,
    is_complaint,
)
from encoder.report import Cause
from encoder.tcp import Connection

OPENING = "[debug] Opening an output file: rtmp://ingest.example/live."
CONNECTED = "[tcp @ 0x5581] [verbose] Successfully connected to 192.0.2.7 port 1935"
HANDSHAKE = "[rtmp @ 0x5581] [debug] Handshaking..."
APP = "[rtmp @ 0x5581] [debug] Proto = rtmp, path = /live, app = live, fname = [key]"
KEY = "[rtmp @ 0x5581] [debug] Releasing stream..."
PUBLISHING = "[info] Output #0, flv, to 'rtmp://ingest.example/live':"
EIO = "[out#0/flv @ 0x5581] [fatal] Error opening output rtmp://ingest.example/live: Input/output error"
BROKEN = "[out#0/flv @ 0x5581] [error] Task finished with error code: -32 (Broken pipe)"

REACHED = [OPENING]
SHAKING = [*REACHED, CONNECTED, HANDSHAKE]
ASKING = [*SHAKING, APP]
ANNOUNCING = [*ASKING, KEY]
STREAMING = [*ANNOUNCING, PUBLISHING]


def evidence(*lines: str) -> Evidence:
    heard = Evidence()
    for line in lines:
        heard.read(line)
    return heard


@pytest.mark.parametrize(
    ("lines", "exit_code", "cause", "told"),
    [
        (
            ["[in#0 @ 0x55] [error] Error opening input: No such file or directory"],
            254,
            Cause.SOURCE,
            "not found",
        ),
        (["[in#0 @ 0x55] [error] Error opening input: Permission denied"], 243, Cause.SOURCE, "not be read"),
        (["[in#0 @ 0x55] [error] Error opening input: Input/output error"], 251, Cause.SOURCE, "further"),
        (["[in#0 @ 0x55] [error] moov atom not found"], 183, Cause.SOURCE, "not an MP4"),
        (
            [*REACHED, "[fatal] Stream map '0:v:0' matches no streams."],
            234,
            Cause.SOURCE,
            "no video",
        ),
        (
            [
                *ANNOUNCING,
                "[flv @ 0x55] [error] Video codec png not compatible with flv",
                "[out#0/flv @ 0x55] [error] Could not write header (incorrect codec parameters ?): EINVAL",
            ],
            218,
            Cause.SOURCE,
            "codecs",
        ),
        (
            [*REACHED, "[tcp @ 0x55] [error] Failed to resolve hostname x: Name or service not known", EIO],
            251,
            Cause.NETWORK,
            "name",
        ),
        (
            [*REACHED, "[tcp @ 0x55] [error] Connection to tcp://x failed: Network is unreachable"],
            155,
            Cause.NETWORK,
            "reached",
        ),
        (
            [*REACHED, "[tcp @ 0x55] [error] Connection to tcp://x failed: Connection timed out"],
            146,
            Cause.NETWORK,
            "reached",
        ),
        (
            [*REACHED, "[tcp @ 0x55] [error] Connection to tcp://x failed: Connection refused"],
            145,
            Cause.REMOTE_REFUSED,
            "refused",
        ),
        (
            [
                *REACHED,
                CONNECTED,
                "[tls @ 0x55] [error] error:0A000086:SSL routines::certificate verify failed",
                EIO,
            ],
            251,
            Cause.REMOTE_REFUSED,
            "certificate",
        ),
        (
            [*REACHED, CONNECTED, "[tls @ 0x55] [error] IO error: Connection timed out"],
            146,
            Cause.REMOTE_REFUSED,
            "secure",
        ),
        (
            [*SHAKING, "[rtmp @ 0x55] [error] Cannot read RTMP handshake response"],
            152,
            Cause.REMOTE_REFUSED,
            "handshake",
        ),
        (
            [*SHAKING, "[rtmp @ 0x55] [error] Cannot read RTMP handshake response"],
            146,
            Cause.STALLED,
            "answer",
        ),
        ([*ASKING, EIO], 251, Cause.REMOTE_REFUSED, "application"),
        ([*ANNOUNCING, EIO], 251, Cause.KEY_REJECTED, "rejected"),
        (
            [*ANNOUNCING, "[rtmp @ 0x55] [error] Server error: Already publishing"],
            255,
            Cause.KEY_REJECTED,
            "already",
        ),
        ([*ANNOUNCING, "[rtmp @ 0x55] [error] Server error: denied"], 255, Cause.KEY_REJECTED, "rejected"),
        (
            [*STREAMING, "[in#0/mov @ 0x55] [error] Error during demuxing: Input/output error"],
            251,
            Cause.SOURCE,
            "further",
        ),
        (["[debug] Opening an input file"], 244, Cause.CPU, "memory"),
        (STREAMING, 0, Cause.SOURCE, "repeat"),
        (STREAMING, -9, Cause.CPU, "memory"),
        (STREAMING, -11, Cause.SOURCE, "crashed"),
        ([], 127, Cause.CPU, "start"),
    ],
)
def test_a_fault_has_its_name(lines: list[str], exit_code: int, cause: Cause, told: str) -> None:
    failure = explain(evidence(*lines), exit_code, delivered=False)
    assert failure.cause is cause
    assert told in failure.detail


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EIO])
def test_a_connection_that_carried_media_broke(code: int) -> None:
    assert explain(evidence(*STREAMING, BROKEN), 256 - code, delivered=True).cause is Cause.NETWORK


def test_a_connection_closed_before_any_media_is_about_the_key() -> None:
    failure = explain(evidence(*STREAMING, BROKEN), 256 - errno.EPIPE, delivered=False)
    assert failure.cause is Cause.KEY_REJECTED


def test_a_complaint_of_long_ago_is_forgotten() -> None:
    heard = evidence(*STREAMING, "[in#0 @ 0x55] [error] Error during demuxing: Input/output error")
    for _ in range(100):
        heard.read("[in#0/mov @ 0x55] [warning] Packet corrupt (stream = 0, dts = 43008).")
    assert explain(heard, 256 - errno.EPIPE, delivered=True).cause is Cause.NETWORK


def test_a_title_that_reads_like_a_landmark_is_none() -> None:
    heard = evidence("[info]     title           : Handshaking... Releasing stream... Output #0")
    assert heard.phase is Phase.SOURCE


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("[rtmp @ 0x55] [error] Server error: denied", True),
        ("[warning] Something", True),
        ("    Last message repeated 3 times", True),
        ("[rtmp @ 0x55] [debug] Handshaking...", False),
        ("[info] Stream mapping:", False),
        ("[verbose]", False),
        ("[in#0 @ 0x55] [error] /media/[debug] x.mp4: No such file or directory", True),
    ],
)
def test_only_complaints_are_for_the_log(line: str, expected: bool) -> None:
    assert is_complaint(line) is expected
    assert Evidence().read(line) is expected


def connection(*, queued: int = 0, peer_limited: float = 0.0) -> Connection:
    return Connection(
        inode=1,
        established=True,
        acknowledged=10_000,
        queued=queued,
        round_trip_ms=1.0,
        retransmits=0,
        peer_limited=peer_limited,
        unanswered=False,
    )


@pytest.mark.parametrize(
    ("now", "threads", "cause"),
    [
        # The peer's window was shut all the while.
        (connection(queued=90_000, peer_limited=107.8), {"S"}, Cause.REMOTE_SLOW),
        # Sent, and no answer: the way is broken.
        (connection(queued=90_000, peer_limited=100.0), {"S"}, Cause.NETWORK),
        (connection(), {"S", "D"}, Cause.SOURCE),
        (connection(), {"S", "R"}, Cause.CPU),
        (connection(), {"T"}, Cause.CPU),
        (connection(), {"S"}, Cause.STALLED),
    ],
)
def test_a_stall_has_its_name(now: Connection, threads: set[str], cause: Cause) -> None:
    before = connection(peer_limited=100.0)
    assert explain_stall(before, now, seconds=8.0, threads=threads).cause is cause


def test_silence_has_its_name() -> None:
    assert explain_silence(evidence(*REACHED), None, threads={"S"}).cause is Cause.NETWORK
    assert explain_silence(evidence(*SHAKING), connection(queued=1), threads={"S"}).cause is Cause.STALLED
    idle = explain_silence(evidence(*STREAMING), connection(), threads={"T"})
    assert idle.cause is Cause.CPU
