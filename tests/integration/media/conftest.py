"""A user's media folder with real files in it, made by ffmpeg."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from cli.suite.media import ffmpeg
from services.streams.media.library import Library, MediaFile

OWNER = UUID("11111111-1111-4111-8111-111111111111")
STRANGER = UUID("22222222-2222-4222-8222-222222222222")


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that tests may read and copy, never change; made on demand."""
    folder = tmp_path_factory.mktemp("originals")
    video = ("-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30")
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100")
    encode = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "30", "-pix_fmt", "yuv420p", "-c:a", "aac")
    run_ffmpeg(*video, *sound, "-t", "2", *encode, str(folder / "plain.mp4"))
    return folder


@pytest.fixture(scope="session")
def convert(originals: Path) -> Callable[..., Path]:
    """`convert("x.mp4", *arguments)`: the plain file as ffmpeg writes it with those arguments."""

    def converted(name: str, *arguments: str) -> Path:
        path = originals / name
        if not path.exists():
            run_ffmpeg("-i", str(originals / "plain.mp4"), *arguments, str(path))
        return path

    return converted


def run_ffmpeg(*arguments: str) -> None:
    subprocess.run([ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", *arguments], check=True)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Two users' folders, both empty."""
    library = Library(root=tmp_path / "media", size_max=1 << 30)
    for user in (OWNER, STRANGER):
        library.folder(user).mkdir(parents=True)
    return library


@pytest.fixture
def put(library: Library) -> Callable[..., MediaFile]:
    """`put(content)`: a file of the owner's, of those bytes or of that file's."""

    def placed(content: bytes | Path, name: str = "film.mp4") -> MediaFile:
        data = content.read_bytes() if isinstance(content, Path) else content
        (library.folder(OWNER) / name).write_bytes(data)
        return library.find(OWNER, name)

    return placed
