import os
import socket
import struct
from collections.abc import Iterator
from contextlib import closing

import pytest

from encoder.tcp import ATTRIBUTE, HEADER, MESSAGE, Unreadable, Watch, attribute, messages, parse


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    family, host = request.param
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        # Small, so that it is soon full.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        listener.listen(1)
        with socket.socket(family) as client:
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            with server:
                yield client, server


def only(client: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """A watch that takes this one socket for all the process has: ffmpeg has no other."""
    inode = os.fstat(client.fileno()).st_ino
    monkeypatch.setattr("encoder.tcp.socket_inodes", lambda pid: {inode})
    return Watch(os.getpid())


def test_acknowledged_bytes_are_the_kernels(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair
    with closing(only(client, monkeypatch)) as watch:
        before = watch.read()
        assert before is not None
        client.sendall(b"x" * 1000)
        server.recv(1000, socket.MSG_WAITALL)
        after = watch.read()
        assert after is not None
        assert after.established
        assert after.written - before.written == 1000
        assert after.inode == os.fstat(client.fileno()).st_ino


def test_what_the_peer_does_not_take_is_queued(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = pair
    client.setblocking(False)
    sent = 0
    with closing(only(client, monkeypatch)) as watch:
        while True:
            try:
                sent += client.send(b"x" * 65536)
            except BlockingIOError:
                break
        seen = watch.read()
        assert seen is not None
        assert seen.queued > 0
        assert seen.written == pytest.approx(sent, abs=1)
        assert seen.acknowledged < sent


def test_a_closed_socket_is_no_connection(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server = pair
    with closing(only(client, monkeypatch)) as watch:
        assert watch.read() is not None
        server.close()
        client.close()
        assert watch.read() is None


def test_a_process_without_sockets_has_no_connection() -> None:
    with closing(Watch(2**22 - 1)) as watch:
        assert watch.read() is None


def test_a_kernel_that_does_not_tell_is_unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> socket.socket:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("encoder.tcp.socket.socket", refused)
    monkeypatch.setattr("encoder.tcp.socket_inodes", lambda pid: {1})
    with pytest.raises(Unreadable, match="does not tell"):
        Watch(1).read()


def test_an_old_kernels_shorter_answer_is_read() -> None:
    info = bytes([1, 0, 3]) + bytes(101)
    body = MESSAGE.pack(socket.AF_INET, 1, bytes(48), 0, 0, 77, 0, 4711)
    payload = body + ATTRIBUTE.pack(4 + len(info), 2) + info
    identity, seen = parse(payload)
    assert identity == bytes(48)
    assert (seen.inode, seen.queued, seen.acknowledged, seen.unanswered) == (4711, 77, 0, True)


def test_torn_netlink_data_ends_the_reading() -> None:
    whole = HEADER.pack(HEADER.size + 4, 20, 0, 0, 0) + b"abcd"
    assert messages(whole + whole) == [(20, b"abcd")] * 2
    assert messages(whole + b"\0" * 7) == [(20, b"abcd")]
    assert messages(HEADER.pack(3, 20, 0, 0, 0)) == []
    assert attribute(struct.pack("=HH", 0, 2), 0, 2) == b""
