"""The encoder's image: made once for what it is made of, found again by that.

Its tag is a hash of everything that goes in, so a second call costs one question
to the engine, and a changed source makes a new image. Nothing here needs a
registry: where none answers, the base is unpacked from the Debian packages that
this machine's own apt knows.
"""

import hashlib
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event, Thread
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
#: What the base must hold so that the build needs no network: the parts and a shell.
PACKAGES: Final = ("python3-minimal", "libpython3-stdlib", "ca-certificates", "dash")

#: A registry that has not said a word by then will not, seconds.
REGISTRY_PATIENCE: Final = 10.0
#: Unpacking takes 5 to 9 seconds here; a slow mirror may take longer.
BASE_PATIENCE: Final = 300.0

_LEFTOVER: Final = "io.streamax.stage=assembly"

_ROOT: Final = Path(__file__).resolve().parents[2]
_DOCKERFILE: Final = _ROOT / "deploy/docker/encoder.Dockerfile"


class ImageUnavailable(Exception):
    """The image is not there and cannot be made; the text says why and what would help."""


Tell = Callable[[str], None]


def ensure_encoder_image(client: APIClient, *, tell: Tell = lambda step: None) -> str:
    """The image's id, `sha256:…`; built on the engine when it is not there yet.

    Blocks: milliseconds when it is there, some twenty seconds when it is not; `tell`
    hears of each step that takes time. Raises ImageUnavailable.
    """
    tag = f"{REPOSITORY}:{_fingerprint()}"
    try:
        if (found := _image(client, tag)) is None:
            base = _base(client, tell)
            tell("building the encoder's image")
            _build(client, tag, base=base)
            found = _image(client, tag)
    except (DockerException, RequestException) as error:
        raise ImageUnavailable(f"the engine failed while it made the encoder image: {error}") from error
    if found is None:
        raise ImageUnavailable("the engine forgot the encoder image it had just built")
    return found


def _ingredients() -> Iterator[tuple[str, Path]]:
    """(path in the build's context, file) of all that goes in, in a fixed order."""
    yield "encoder.Dockerfile", _DOCKERFILE
    yield "assemble.py", _DOCKERFILE.with_name("assemble.py")
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
        # types-docker leaves this call untyped.
        return str(client.inspect_image(name)["Id"])  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return None


def _base(client: APIClient, tell: Tell) -> str:
    """A base the engine has by now. Raises ImageUnavailable."""
    unpacked = f"{LOCAL_BASE}:{hashlib.sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    for local in (PUBLIC_BASE, unpacked):
        if _image(client, local) is not None:
            return local
    tell(f"asking the registry for {PUBLIC_BASE}")
    if _pull(client, PUBLIC_BASE):
        return PUBLIC_BASE
    tell("no registry answers: unpacking a base from Debian's packages")
    _bootstrap(client, unpacked)
    return unpacked


def _pull(client: APIClient, image: str) -> bool:
    """Whether the registry gave it. A silent one is left alone: the SDK itself would wait for ever."""
    spoken, done = Event(), Event()

    def pull() -> None:
        try:
            for _ in client.pull(image, stream=True, decode=True):
                spoken.set()
        except (DockerException, RequestException):
            # No such host, no such image, no leave: whether it is there is asked afterwards.
            return
        finally:
            done.set()
            spoken.set()

    Thread(target=pull, name="pull", daemon=True).start()
    if spoken.wait(REGISTRY_PATIENCE):
        done.wait()
    return _image(client, image) is not None


def _bootstrap(client: APIClient, tag: str) -> None:
    """A base from the packages of the distribution that this machine runs, and from its own mirror.

    Only unpacked, nothing configured: 5 s where a bootable system takes 30.
    """
    remedy = f"pull or load {PUBLIC_BASE} into the engine, or install mmdebstrap"
    tool = shutil.which("mmdebstrap")
    if tool is None:
        raise ImageUnavailable(f"the encoder's image needs {PUBLIC_BASE}, which is not there: {remedy}")
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    with tempfile.TemporaryDirectory(prefix="streamax-image-") as folder:
        archive = Path(folder) / "base.tar"
        command = [
            *(tool, "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}"),
            *(release, str(archive), "-"),
        ]
        try:
            made = subprocess.run(
                command,
                input=_sources(release),
                capture_output=True,
                text=True,
                check=False,
                timeout=BASE_PATIENCE,
            )
        except subprocess.TimeoutExpired:
            raise ImageUnavailable(f"mmdebstrap took over {BASE_PATIENCE:g} s: {remedy}") from None
        if made.returncode:
            tail = " / ".join(made.stderr.splitlines()[-3:])
            raise ImageUnavailable(f"mmdebstrap failed ({tail}): {remedy}")
        repository, _, version = tag.partition(":")
        client.import_image_from_file(str(archive), repository=repository, tag=version)


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
    suites = {codename, f"{codename}-updates", f"{codename}-security"}
    return "".join(
        f"deb {uri} {suite} {component}\n"
        for uri, suite, component in targets
        if suite in suites and component == "main"
    )


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
    # The classic builder keeps the stages it needs no more, half a gigabyte here. (types-docker again.)
    client.prune_images({"dangling": True, "label": [_LEFTOVER]})  # type: ignore[no-untyped-call]


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
