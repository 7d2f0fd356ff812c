"""Which file a `video_source` means: one regular file inside its owner's folder."""

import errno
import os
import stat
import unicodedata
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from services.chassis.errors import InvalidField

__all__ = ["Identity", "Library", "MediaFile", "check"]

#: (device, inode, size, mtime_ns, ctime_ns): a file whose content changed has another one.
Identity = tuple[int, int, int, int, int]

LENGTH_MAX: Final = 1024
#: A path is walked folder by folder, so its depth is a cost.
DEPTH_MAX: Final = 16
#: Longest file name of any Linux file system, in bytes.
NAME_MAX: Final = 255

_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Non-blocking, because opening a FIFO would wait for its writer.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: Controls and line ends of any script, which forge log lines and terminals ...
_UNPRINTABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: ... and what shows a name in another order than it is. Not all of category Cf:
#: emoji are joined by one of them.
_BIDIRECTIONAL: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")

_REMEDIES: Final = {
    errno.ENOENT: "does not exist in your media folder; upload it first",
    errno.ENOTDIR: "leads through something that is no folder of yours; symbolic links are not followed",
    errno.ELOOP: "is a symbolic link, which is not followed; upload the file itself",
    errno.EACCES: "may not be read by the service; give it read permission",
    errno.ENXIO: "is not a regular file; upload an MP4 or MOV file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """One file as it was found."""

    #: The owner's media folder on this host.
    folder: Path
    #: Where in that folder.
    path: str
    #: Bytes.
    size: int
    modified_ns: int
    changed_ns: int
    device: int
    inode: int

    @property
    def identity(self) -> Identity:
        return (self.device, self.inode, self.size, self.modified_ns, self.changed_ns)

    def open(self) -> int:
        """A descriptor for reading this very file; the caller closes it.

        Raises InvalidField when the path leads elsewhere, or to other content, by now.
        """
        descriptor = _open_beneath(self.folder, self.path)
        if _identity(os.fstat(descriptor)) != self.identity:
            os.close(descriptor)
            raise _refusal("was changed in this moment; start again once it is uploaded")
        return descriptor


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """All users' media: `root`/<user id>/..."""

    root: Path
    #: The largest file a stream may be made of, in bytes.
    size_max: int

    def folder(self, user_id: UUID) -> Path:
        return self.root / str(user_id)

    def find(self, user_id: UUID, video_source: str) -> MediaFile:
        """The file `video_source` means. Raises InvalidField on `video_source`.

        Blocks for some microseconds of local file system.
        """
        path = check(video_source)
        folder = self.folder(user_id)
        descriptor = _open_beneath(folder, path)
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _refusal("is not a regular file; name an MP4 or MOV file in your media folder")
        if found.st_size == 0:
            raise _refusal("is empty; upload it again")
        if found.st_size > self.size_max:
            raise _refusal(f"is larger than the {self.size_max} bytes a file may have; encode it smaller")
        device, inode, size, modified, changed = _identity(found)
        return MediaFile(
            folder=folder,
            path=path,
            size=size,
            modified_ns=modified,
            changed_ns=changed,
            device=device,
            inode=inode,
        )


def check(video_source: str) -> str:
    """The text itself, if it is a plain path inside a folder; no file system is asked.

    Every file has one spelling: no empty, "." or ".." parts. Raises InvalidField
    on `video_source`, never repeating what may be another's secret.
    """
    if not video_source:
        raise _refusal("is empty; name a file in your media folder")
    if len(video_source) > LENGTH_MAX:
        raise _refusal(f"is longer than {LENGTH_MAX} characters")
    if any(unicodedata.category(one) in _UNPRINTABLE or one in _BIDIRECTIONAL for one in video_source):
        raise _refusal("holds control characters; rename the file")
    if video_source.startswith("-"):
        raise _refusal("may not begin with '-'; rename the file")
    if video_source.startswith("/"):
        raise _refusal("is an absolute path; give it relative to your media folder")
    if "\\" in video_source:
        raise _refusal("holds a backslash; separate folders by '/'")
    parts = video_source.split("/")
    # "http:", "file:", "concat:a|b", "subfile,,start,0,,:a": whatever libav would
    # take for a protocol has its colon in the first part.
    scheme, colon, _ = parts[0].partition(":")
    if colon and scheme.lower() in ("http", "https"):
        raise _refusal("is a web address; upload the file to your media folder and give its path there")
    if colon:
        raise _refusal("looks like an address; give the path of a file, without ':' in its first part")
    if ".." in parts:
        raise _refusal("leads out of a folder by '..'; give it relative to your media folder")
    if "" in parts or "." in parts:
        raise _refusal("has an empty or '.' part; write it as folder/file.mp4")
    if len(parts) > DEPTH_MAX:
        raise _refusal(f"is more than {DEPTH_MAX} folders deep; move the file up")
    if any(len(part.encode()) > NAME_MAX for part in parts):
        raise _refusal(f"holds a name of more than {NAME_MAX} bytes; rename the file")
    return video_source


def _open_beneath(folder: Path, path: str) -> int:
    """Open folder/path without following any symbolic link below the root.

    Each part is opened relative to the one before, so that nothing swapped
    meanwhile can lead the walk out of the folder. Raises InvalidField.
    """
    *folders, name = path.split("/")
    with ExitStack() as opened:
        try:
            at = os.open(folder, _FOLDER)
            opened.callback(os.close, at)
            for part in folders:
                at = os.open(part, _FOLDER, dir_fd=at)
                opened.callback(os.close, at)
            return os.open(name, _FILE, dir_fd=at)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0)
            if remedy is None:
                raise
            raise _refusal(remedy) from error


def _identity(found: os.stat_result) -> Identity:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _refusal(description: str) -> InvalidField:
    return InvalidField.of("video_source", description)
