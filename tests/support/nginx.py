"""A real RTMP server that is not ours: nginx with its RTMP module, on free ports of this machine.

Its statistics are the judge of what a stream delivered; its worker can be frozen
or killed, its publishers dropped or refused, and what it received can be kept as
FLV files for a look at the media itself.
"""

import os
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Final
from xml.etree import ElementTree

__all__ = ["Event", "Nginx", "Statistics", "nginx"]

BINARY: Final = "/usr/sbin/nginx"
MODULE: Final = "/usr/lib/nginx/modules/ngx_rtmp_module.so"

CONFIGURATION: Final = """\
{user}
load_module {module};
daemon off; master_process on; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/error.log info;
events {{ worker_connections 1024; }}
rtmp {{ server {{ listen {host}:{rtmp_port}; chunk_size 4096; ping 5s; ping_timeout 5s;
  application live {{
    live on; drop_idle_publisher 10s; {record}
    on_publish http://127.0.0.1:{control_port}/publish;
    on_publish_done http://127.0.0.1:{control_port}/publish_done;
    notify_method post; }} }} }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:{http_port};
    location /stat {{ rtmp_stat all; }}
    location /control {{ rtmp_control all; }} }} }}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """One stream as nginx sees it now."""

    #: Bytes of RTMP payload received from the present publisher.
    bytes_in: int
    #: 1 while somebody publishes; nginx refuses a second one.
    publishers: int
    #: Since the present publisher came, seconds.
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """nginx asked leave for a publisher, or told of its end."""

    at: float
    #: "publish" or "publish_done".
    kind: str
    name: str
    allowed: bool


@dataclass(slots=True, kw_only=True)
class Nginx:
    """A running server; made by `nginx()`."""

    process: subprocess.Popen[bytes]
    folder: Path
    host: str
    rtmp_port: int
    http_port: int
    events: list[Event] = field(default_factory=list)
    _denied: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def url(self, host: str = "127.0.0.1") -> str:
        """rtmp://host:port/live, to which a publisher adds its key."""
        return f"rtmp://{host}:{self.rtmp_port}/live"

    def statistics(self) -> dict[str, Statistics]:
        """All streams by name (the key)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/stat", timeout=5) as reply:
            tree = ElementTree.parse(reply)
        return {
            stream.findtext("name", ""): Statistics(
                bytes_in=int(stream.findtext("bytes_in", "0")),
                publishers=len(stream.findall("client/publishing")),
                seconds=int(stream.findtext("time", "0")) / 1000,
            )
            for stream in tree.iterfind("server/application/live/stream")
        }

    def bytes_in(self, name: str) -> int:
        found = self.statistics().get(name)
        return found.bytes_in if found else 0

    def publishers(self, name: str) -> int:
        found = self.statistics().get(name)
        return found.publishers if found else 0

    def drop_publisher(self, name: str) -> None:
        """Close the publisher's connection, as an ingest does that wants it gone."""
        query = urllib.parse.urlencode({"app": "live", "name": name})
        url = f"http://127.0.0.1:{self.http_port}/control/drop/publisher?{query}"
        with urllib.request.urlopen(url, timeout=5):
            return

    def deny(self, name: str) -> None:
        """Refuse every further publisher of this name."""
        with self._lock:
            self._denied.add(name)

    def allow(self, name: str) -> None:
        with self._lock:
            self._denied.discard(name)

    def asked(self, name: str) -> bool:
        """Record and answer nginx's question; for the control server."""
        with self._lock:
            return name not in self._denied

    def publications(self, name: str) -> list[Event]:
        """The publishers let in under this name so far, oldest first."""
        return [one for one in self.events if one.kind == "publish" and one.name == name and one.allowed]

    def freeze(self) -> None:
        """Stop the worker, not its kernel: connections stay and their windows fill."""
        self._signal_worker(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_worker(signal.SIGCONT)

    def until(self, holds: Callable[["Nginx"], bool], *, patience: float = 10.0) -> None:
        """Blocks until this is so of the server. Raises TimeoutError. In async tests: by to_thread."""
        _await(lambda: holds(self), "nginx never came to it", patience=patience)

    def recordings(self) -> list[Path]:
        """FLV files of what came in, oldest first; only with record=True."""
        return sorted((self.folder / "record").glob("*.flv"), key=lambda path: path.stat().st_mtime_ns)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            self.process.wait(10)

    def _signal_worker(self, number: int) -> None:
        for worker in _children(self.process.pid):
            os.kill(worker, number)


@contextmanager
def nginx(folder: Path, *, host: str = "127.0.0.1", record: bool = False) -> Iterator[Nginx]:
    """A server on free ports, answering when this yields; gone afterwards.

    `host` is where RTMP listens: "0.0.0.0" for publishers inside containers. The
    statistics and the control of publishers listen on loopback alone.
    """
    (folder / "record").mkdir(parents=True, exist_ok=True)
    (folder / "record").chmod(0o777)
    with _control() as control:
        rtmp_port, http_port = _free_ports(host, 2)
        text = CONFIGURATION.format(
            user="user root;" if os.geteuid() == 0 else "",
            module=MODULE,
            folder=folder,
            host=host,
            rtmp_port=rtmp_port,
            http_port=http_port,
            control_port=control.server_port,
            record=f"record all; record_path {folder}/record; record_unique on;" if record else "",
        )
        (folder / "nginx.conf").write_text(text)
        server = Nginx(
            process=subprocess.Popen(
                [BINARY, "-c", folder / "nginx.conf", "-p", folder, "-e", folder / "error.log"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ),
            folder=folder,
            host=host,
            rtmp_port=rtmp_port,
            http_port=http_port,
        )
        control.nginx = server
        try:
            _await(lambda: _answers(server), f"nginx did not start; see {folder}/error.log")
            yield server
        finally:
            server.stop()


class _Control(ThreadingHTTPServer):
    """Answers nginx's on_publish question: 200 lets the publisher in, 403 does not."""

    nginx: Nginx | None = None


class _Handler(BaseHTTPRequestHandler):
    server: _Control

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        name = urllib.parse.parse_qs(body.decode()).get("name", [""])[0]
        asked = self.server.nginx
        allowed = asked is not None and asked.asked(name)
        if asked is not None:
            asked.events.append(Event(at=time.time(), kind=self.path.lstrip("/"), name=name, allowed=allowed))
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the events are the log."""


@contextmanager
def _control() -> Iterator[_Control]:
    with _Control(("127.0.0.1", 0), _Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="on_publish")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _free_ports(host: str, count: int) -> list[int]:
    """Ports free a moment ago. All are held at once, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _answers(server: Nginx) -> bool:
    if server.process.poll() is not None:
        raise RuntimeError(f"nginx ended with {server.process.returncode}; see {server.folder}/error.log")
    try:
        server.statistics()
        with socket.create_connection(("127.0.0.1", server.rtmp_port), timeout=1):
            return True
    except OSError:
        return False


def _await(condition: Callable[[], bool], complaint: str, *, patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(0.02)


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
