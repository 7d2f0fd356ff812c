"""Finding a file on a real file system, with everything there that leads out of the folder."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from services.chassis.errors import InvalidField
from services.streams.media.library import Library, MediaFile
from tests.integration.media.conftest import OWNER, STRANGER

SECRET = b"another user's film"


@pytest.fixture
def folder(library: Library) -> Path:
    (library.folder(STRANGER) / "secret.mp4").write_bytes(SECRET)
    (library.folder(OWNER) / "sub").mkdir()
    (library.folder(OWNER) / "sub" / "a.mp4").write_bytes(b"film")
    return library.folder(OWNER)


def refusal(library: Library, text: str) -> str:
    with pytest.raises(InvalidField) as caught:
        library.find(OWNER, text)
    assert [one.field for one in caught.value.fields] == ["video_source"]
    return caught.value.message


def test_file_in_a_subfolder_is_found_as_it_is(library: Library, folder: Path) -> None:
    found = library.find(OWNER, "sub/a.mp4")
    status = (folder / "sub" / "a.mp4").stat()
    assert (found.folder, found.path, found.size) == (folder, "sub/a.mp4", 4)
    assert found.identity == (status.st_dev, status.st_ino, 4, status.st_mtime_ns, status.st_ctime_ns)
    descriptor = found.open()
    assert os.read(descriptor, 10) == b"film"
    os.close(descriptor)


def test_missing_file_is_refused(library: Library, folder: Path) -> None:
    assert "does not exist" in refusal(library, "none.mp4")
    assert "does not exist" in refusal(library, "none/a.mp4")


def test_user_without_a_folder_has_no_files(tmp_path: Path) -> None:
    assert "does not exist" in refusal(Library(root=tmp_path, size_max=9), "a.mp4")


def test_file_used_as_a_folder_is_refused(library: Library, folder: Path) -> None:
    assert "no folder of yours" in refusal(library, "sub/a.mp4/b.mp4")


def test_empty_file_is_refused(library: Library, folder: Path) -> None:
    (folder / "empty.mp4").touch()
    assert "is empty" in refusal(library, "empty.mp4")


def test_file_over_the_limit_is_refused_with_the_limit(library: Library, folder: Path) -> None:
    with (folder / "huge.mp4").open("wb") as huge:
        huge.truncate(library.size_max + 1)
    assert str(library.size_max) in refusal(library, "huge.mp4")
    with (folder / "huge.mp4").open("wb") as huge:
        huge.truncate(library.size_max)
    assert library.find(OWNER, "huge.mp4").size == library.size_max


def test_symbolic_link_is_refused_wherever_it_leads(library: Library, folder: Path) -> None:
    (folder / "out.mp4").symlink_to(library.folder(STRANGER) / "secret.mp4")
    (folder / "in.mp4").symlink_to(folder / "sub" / "a.mp4")
    (folder / "nowhere.mp4").symlink_to("/nowhere")
    for name in ("out.mp4", "in.mp4", "nowhere.mp4"):
        assert "is a symbolic link" in refusal(library, name)


def test_symbolic_link_to_a_folder_is_refused(library: Library, folder: Path) -> None:
    (folder / "out").symlink_to(library.folder(STRANGER))
    (folder / "root").symlink_to("/")
    for path in ("out/secret.mp4", "root/etc/passwd", "sub/../out/secret.mp4"):
        refusal(library, path)


def test_user_folder_that_is_a_symbolic_link_is_refused(library: Library) -> None:
    library.folder(OWNER).rmdir()
    library.folder(OWNER).symlink_to(library.folder(STRANGER))
    (library.folder(STRANGER) / "secret.mp4").write_bytes(SECRET)
    refusal(library, "secret.mp4")


@pytest.mark.timeout(5)
def test_what_is_no_regular_file_is_refused_without_waiting(library: Library, folder: Path) -> None:
    os.mkfifo(folder / "fifo.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        for name in ("fifo.mp4", "s", "sub"):
            assert "is not a regular file" in refusal(library, name)


def test_file_without_permission_is_refused() -> None:
    with TemporaryDirectory() as root:
        Path(root).chmod(0o777)
        with ordinary_user():
            library = Library(root=Path(root), size_max=9)
            folder = library.folder(OWNER)
            folder.mkdir()
            (folder / "a.mp4").write_bytes(b"film")
            assert library.find(OWNER, "a.mp4").size == 4
            (folder / "a.mp4").chmod(0)
            assert "may not be read" in refusal(library, "a.mp4")
            folder.chmod(0)
            assert "may not be read" in refusal(library, "a.mp4")
            folder.chmod(0o700)


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Root may read everything, so be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def swapped_for_a_link(found: MediaFile, library: Library) -> None:
    (found.folder / found.path).unlink()
    (found.folder / found.path).symlink_to(library.folder(STRANGER) / "secret.mp4")


def swapped_for_another_file(found: MediaFile, library: Library) -> None:
    os.link(library.folder(STRANGER) / "secret.mp4", found.folder / "new")
    os.replace(found.folder / "new", found.folder / found.path)


def swapped_by_its_folder(found: MediaFile, library: Library) -> None:
    (library.folder(STRANGER) / "a.mp4").write_bytes(b"film")
    (found.folder / "sub").rename(found.folder / "old")
    (found.folder / "sub").symlink_to(library.folder(STRANGER))


def overwritten(found: MediaFile, library: Library) -> None:
    (found.folder / found.path).write_bytes(b"mlif")


def removed(found: MediaFile, library: Library) -> None:
    (found.folder / found.path).unlink()


@pytest.mark.parametrize(
    "change", [swapped_for_a_link, swapped_for_another_file, swapped_by_its_folder, overwritten, removed]
)
def test_only_the_file_that_was_found_is_opened(
    library: Library, folder: Path, change: Callable[[MediaFile, Library], None]
) -> None:
    found = library.find(OWNER, "sub/a.mp4")
    before = set(os.listdir("/proc/self/fd"))
    change(found, library)
    with pytest.raises(InvalidField):
        found.open()
    assert set(os.listdir("/proc/self/fd")) == before


def test_nothing_stays_open(library: Library, folder: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    library.find(OWNER, "sub/a.mp4")
    refusal(library, "sub")
    refusal(library, "sub/none.mp4")
    assert set(os.listdir("/proc/self/fd")) == before
