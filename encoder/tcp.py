"""What the kernel knows of ffmpeg's connection: the truth about delivery.

The sock_diag interface answers any process about the sockets of its own network
namespace, without privilege: measured in a container with all capabilities
dropped, and on the host. A socket is ffmpeg's when /proc/<pid>/fd names its inode.
"""

import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

NETLINK_SOCK_DIAG: Final = 4
SOCK_DIAG_BY_FAMILY: Final = 20
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_DUMP: Final = 0x300
INET_DIAG_INFO: Final = 2

ESTABLISHED: Final = 1
SYN_SENT: Final = 2
#: ESTABLISHED, SYN_SENT, CLOSE_WAIT (8) and the closing states that still hold unsent bytes.
LIVE_STATES: Final = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 8 | 1 << 9 | 1 << 11

HEADER: Final = struct.Struct("=IHHII")
REQUEST: Final = struct.Struct("=BBBxI")
#: Ports, addresses, interface and cookie: names one socket for good.
IDENTITY_SIZE: Final = 48
#: Family, state; the identity; expires, rqueue, wqueue, uid, inode.
MESSAGE: Final = struct.Struct("=BBxx48sIIIII")
ATTRIBUTE: Final = struct.Struct("=HH")

_RTT: Final = struct.Struct("=I").unpack_from
_U64: Final = struct.Struct("=Q").unpack_from


class Unreadable(OSError):
    """The kernel will not tell: no sock_diag here, or no leave to use it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One TCP connection at one moment. All counters begin at zero with the connection."""

    inode: int
    established: bool
    #: Bytes the peer's kernel acknowledged; the SYN counts as one.
    acknowledged: int
    #: Bytes ffmpeg has written that are not acknowledged yet.
    queued: int
    round_trip_ms: float
    #: Segments sent again.
    retransmits: int
    #: Time spent unable to send because the peer's window was full, seconds.
    peer_limited: float
    #: Whether the latest segment is being retransmitted without an answer.
    unanswered: bool

    @property
    def written(self) -> int:
        """Bytes ffmpeg handed to the kernel so far."""
        return self.acknowledged + self.queued


class Watch:
    """Finds and re-reads the connection of one process. Not for threads."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._family = 0
        self._identity = b""
        self._netlink: socket.socket | None = None

    def read(self) -> Connection | None:
        """The connection now; None while there is none. Raises Unreadable."""
        try:
            if self._identity and (found := self._ask_again()):
                return found
            return self._search()
        except OSError as error:
            raise Unreadable(error.errno, f"the kernel does not tell of connections: {error}") from None

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()

    def _ask_again(self) -> Connection | None:
        """One exact question: costs the same however many sockets the machine has."""
        for answer in self._ask(self._family, NLM_F_REQUEST, self._identity):
            return answer[1]
        self._identity = b""
        return None

    def _search(self) -> Connection | None:
        inodes = socket_inodes(self._pid)
        if not inodes:
            return None
        for family in (socket.AF_INET, socket.AF_INET6):
            for identity, one in self._ask(family, NLM_F_REQUEST | NLM_F_DUMP, bytes(IDENTITY_SIZE)):
                if one.inode in inodes:
                    # While connecting, ffmpeg may race several addresses: hold on to the one that won.
                    if one.established:
                        self._family, self._identity = family, identity
                    return one
        return None

    def _ask(self, family: int, flags: int, identity: bytes) -> list[tuple[bytes, Connection]]:
        body = REQUEST.pack(family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), LIVE_STATES) + identity
        header = HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 0, 0)
        netlink = self._opened()
        netlink.sendto(header + body, (0, 0))
        answers: list[tuple[bytes, Connection]] = []
        while True:
            data = netlink.recv(65536)
            more = flags & NLM_F_DUMP == NLM_F_DUMP
            for kind, payload in messages(data):
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    more = False
                elif kind == SOCK_DIAG_BY_FAMILY:
                    answers.append(parse(payload))
            if not more:
                return answers

    def _opened(self) -> socket.socket:
        if self._netlink is None:
            kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
            self._netlink = socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)
            # The kernel answers at once or not at all; this only keeps a broken one from blocking us.
            self._netlink.settimeout(0.5)
        return self._netlink


def socket_inodes(pid: int) -> set[int]:
    """Inodes of all sockets a process holds; empty when it is gone."""
    folder = f"/proc/{pid}/fd"
    found: set[int] = set()
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(int(target[8:-1]))
    return found


def messages(data: bytes) -> list[tuple[int, bytes]]:
    """The netlink messages of one datagram, as (type, payload)."""
    found = []
    offset = 0
    while offset + HEADER.size <= len(data):
        length, kind, _, _, _ = HEADER.unpack_from(data, offset)
        if length < HEADER.size:
            break
        found.append((kind, data[offset + HEADER.size : offset + length]))
        offset += length + 3 & ~3
    return found


def parse(payload: bytes) -> tuple[bytes, Connection]:
    """One inet_diag_msg with its tcp_info, as (identity, connection)."""
    _, state, identity, _, _, queued, _, inode = MESSAGE.unpack_from(payload)
    info = attribute(payload, MESSAGE.size, INET_DIAG_INFO)
    # tcp_info only ever grows at its end, so offsets hold; an old kernel's is shorter.
    info = info.ljust(192, b"\0")
    return identity, Connection(
        inode=inode,
        established=state != SYN_SENT,
        acknowledged=_U64(info, 120)[0],
        queued=queued,
        round_trip_ms=_RTT(info, 68)[0] / 1000,
        retransmits=_RTT(info, 100)[0],
        peer_limited=_U64(info, 176)[0] / 1e6,
        unanswered=info[2] > 0,
    )


def attribute(payload: bytes, offset: int, wanted: int) -> bytes:
    """The netlink attribute of that number; empty if absent."""
    while offset + ATTRIBUTE.size <= len(payload):
        length, kind = ATTRIBUTE.unpack_from(payload, offset)
        if length < ATTRIBUTE.size:
            break
        if kind == wanted:
            return payload[offset + ATTRIBUTE.size : offset + length]
        offset += length + 3 & ~3
    return b""
