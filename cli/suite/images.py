"""The encoder's image: made once for what it is made of, found again by that.

Its tag is a hash of everything that goes in, so a second call costs one question
to the engine, and a changed source makes a new image.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from docker import APIClient
from docker.errors import DockerException, ImageNotFound
from requests import RequestException

from cli.suite.media import ffmpeg

__all__ = ["ImageUnavailable", "ensure_encoder_image"]

REPOSITORY: Final = "streamax/encoder"
#: What the Dockerfile names, for machines that can pull it.
PUBLIC_BASE: Final = "debian:bookworm-slim"
#: Made of this machine's own packages where nothing can be pulled.
LOCAL_BASE: Final = "streamax/encoder-base"
#: What the base must hold so that the build needs no network.
PACKAGES: Final = ("python3", "ca-certificates")

_LEFTOVER: Final = "io.streamax.stage=parts"

_ROOT: Final = Path(__file__).resolve().parents[2]
_DOCKERFILE: Final = _ROOT / "deploy/docker/encoder.Dockerfile"


class ImageUnavailable(Exception):
    """The image is not there and cannot be made; the text says why and what would help."""


def ensure_encoder_image(client: APIClient) -> str:
    """The image's id, `sha256:…`; built on the engine when it is not there yet.

    Blocks: milliseconds when it is there, half a minute when it is not. Raises ImageUnavailable.
    """
    tag = f"{REPOSITORY}:{_fingerprint()}"
    try:
        if (found := _image(client, tag)) is None:
            _build(client, tag, base=_base(client))
            found = _image(client, tag)
    except (DockerException, RequestException) as error:
        raise ImageUnavailable(f"the engine failed while it made the encoder image: {error}") from error
    if found is None:
        raise ImageUnavailable("the engine forgot the encoder image it had just built")
    return found


def _ingredients() -> Iterator[tuple[str, Path]]:
    """(path in the build's context, file) of all that goes in, in a fixed order."""
    yield "encoder.Dockerfile", _DOCKERFILE
    yield "collect.py", _DOCKERFILE.with_name("collect.py")
    for source in sorted((_ROOT / "encoder").glob("*.py")):
        yield f"encoder/{source.name}", source
    yield "ffmpeg", Path(ffmpeg())


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for name, path in _ingredients():
        # ffmpeg is 170 MB and never edited; its file name carries its version.
        content = f"{path.name} {path.stat().st_size}".encode() if name == "ffmpeg" else path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


def _image(client: APIClient, name: str) -> str | None:
    try:
        return str(client.inspect_image(name)["Id"])
    except ImageNotFound:
        return None


def _base(client: APIClient) -> str:
    """A base the engine has by now. Raises ImageUnavailable."""
    for local in (LOCAL_BASE, PUBLIC_BASE):
        if _image(client, local) is not None:
            return local
    if os.geteuid() == 0 and shutil.which("mmdebstrap"):
        _bootstrap(client)
        return LOCAL_BASE
    try:
        client.pull(PUBLIC_BASE)
    except (DockerException, RequestException) as error:
        raise ImageUnavailable(
            f"the engine has no {PUBLIC_BASE} and cannot pull it; as root, install mmdebstrap to make a base"
        ) from error
    return PUBLIC_BASE


def _bootstrap(client: APIClient) -> None:
    """A base from the packages of the distribution that this machine runs, and from its own mirror."""
    release = platform.freedesktop_os_release()
    with tempfile.TemporaryDirectory(prefix="streamax-image-") as folder:
        archive = Path(folder) / "base.tar"
        made = subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=essential", f"--include={','.join(PACKAGES)}"),
                *(release["VERSION_CODENAME"], str(archive), "-"),
            ],
            input=_sources(release["VERSION_CODENAME"]),
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ImageUnavailable(f"mmdebstrap failed: {' / '.join(made.stderr.splitlines()[-3:])}")
        client.import_image_from_file(str(archive), repository=LOCAL_BASE)


def _sources(codename: str) -> str:
    """The lines of sources.list for the distribution itself, as apt understands this machine's."""
    listing = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    targets = (line.split() for line in dict.fromkeys(listing.splitlines()))
    ours = [f"deb {uri} {suite} {component}" for uri, suite, component in targets if suite == codename]
    return "\n".join(one for one in ours if one.endswith(" main")) + "\n"


def _build(client: APIClient, tag: str, *, base: str) -> None:
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, path in _ingredients():
                archive.add(path, name, filter=_anonymous)
        context.seek(0)
        steps = client.build(
            fileobj=context,
            custom_context=True,
            dockerfile=_DOCKERFILE.name,
            tag=tag,
            buildargs={"BASE": base},
            rm=True,
            forcerm=True,
            decode=True,
        )
        _follow(steps)
    # The classic builder keeps the stages it needs no more, half a gigabyte here.
    client.prune_images({"dangling": True, "label": [_LEFTOVER]})


def _follow(steps: Iterable[dict[str, Any]]) -> None:
    """To the end of the build. Raises ImageUnavailable with the last that a failed one printed."""
    printed: deque[str] = deque(maxlen=5)
    for step in steps:
        if "error" in step:
            tail = "".join(printed).strip()
            raise ImageUnavailable(f"the encoder image cannot be built: {step['error']}\n{tail}")
        printed.append(str(step.get("stream", "")))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same context whoever makes it, and whenever."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.name == "ffmpeg" else 0o644
    return entry
