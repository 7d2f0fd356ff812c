"""Puts the encoder's root filesystem together: ffmpeg, a Python, the encoder, and what those need.

Run by encoder.Dockerfile in its first stage, on any Debian with python3 and
ca-certificates. No shell, no package manager and no module the encoder does not
import gets into /image; at the end it is entered and tried, so that a missing
library fails the build and not a stream.
"""

# ruff: noqa: S603 - what it runs is what it was built to run, inside the build

import compileall
import json
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

IMAGE = Path("/image")
#: What of it changes with every release; in a layer of its own, it is all a new image costs.
PLACE = Path("usr/lib/encoder")
CHANGING = Path("/changing")
ENCODER = Path("/parts/encoder")
FFMPEG = Path("/parts/ffmpeg")
PYTHON = Path(sys.executable).resolve()

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
CERTIFICATES = Path("/usr/share/ca-certificates")

#: The program, and what it imports only once ffmpeg is on its way.
PROGRAM = ("encoder.program", "encoder.supervisor")
#: Imported by the interpreter itself as need be: `-m`, and text in a narrow locale.
BESIDES = ("runpy", "encodings.ascii", "encodings.latin_1")

LIST_MODULES = """
import json, sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
print(json.dumps([one.__file__ for one in list(sys.modules.values()) if getattr(one, "__file__", None)]))
"""

NOBODY = "nobody:x:65534:65534:nobody:/:/nonexistent\n"


def put(source: Path, target: Path | None = None) -> None:
    """Into the image, at the same place if no other is said; what a link points to, not the link."""
    place = IMAGE / (target or source).relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), place)


def libraries(binary: Path) -> Iterator[Path]:
    """All a program needs to be loaded, its loader too. The loader itself tells."""
    listing = subprocess.run(
        [binary], env={"LD_TRACE_LOADED_OBJECTS": "1"}, check=True, capture_output=True, text=True
    )
    for line in listing.stdout.splitlines():
        for word in line.split():
            if word.startswith("/"):
                yield Path(word)


def modules() -> list[Path]:
    """Of the standard library, what the encoder imports."""
    listing = subprocess.run(
        [PYTHON, "-I", "-S", "-c", LIST_MODULES, ENCODER.parent, *PROGRAM, *BESIDES],
        check=True,
        capture_output=True,
        text=True,
    )
    found = [Path(one) for one in json.loads(listing.stdout)]
    # `os` is the landmark by which Python finds its library, frozen or not.
    found.append(Path(os.__file__))
    return [one for one in found if not one.is_relative_to(ENCODER)]


def certificates() -> str:
    """The bundle, or what it would be made of where nothing made it (a base only unpacked)."""
    if BUNDLE.exists():
        return BUNDLE.read_text()
    return "".join(one.read_text() for one in sorted(CERTIFICATES.rglob("*.crt")))


def write(path: str, text: str) -> None:
    place = IMAGE / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def assemble() -> None:
    put(FFMPEG, Path("/usr/bin/ffmpeg"))
    put(PYTHON, Path("/usr/bin/python3"))
    for library in sorted({*libraries(FFMPEG), *libraries(PYTHON)}):
        put(library)
    for module in modules():
        put(module)
    # Its absence would be complained of at every start.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (IMAGE / "usr/lib" / version / "lib-dynload").mkdir(parents=True, exist_ok=True)
    for source in ENCODER.glob("*.py"):
        put(source, "/" / PLACE / source.name)
    write(str(BUNDLE.relative_to("/")), certificates())
    write("etc/passwd", NOBODY)
    write("etc/group", "nogroup:x:65534:\n")
    write("etc/nsswitch.conf", "hosts: files dns\n")
    # Unchecked: the files never change, and their times need not be looked at.
    compileall.compile_dir(
        IMAGE / "usr/lib",
        quiet=1,
        stripdir=IMAGE,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    for path in IMAGE.rglob("*"):
        path.chmod(0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444, follow_symlinks=True)


def attempt(*command: str) -> None:
    """Run in the image alone, as its user. Raises CalledProcessError."""

    def enter() -> None:
        os.chroot(IMAGE)
        os.chdir("/")
        os.setgid(65534)
        os.setuid(65534)

    subprocess.run(command, check=True, env={}, preexec_fn=enter, stdout=subprocess.DEVNULL)


def set_apart() -> None:
    (CHANGING / PLACE).parent.mkdir(parents=True)
    shutil.move(IMAGE / PLACE, CHANGING / PLACE)


if __name__ == "__main__":
    assemble()
    attempt("/usr/bin/ffmpeg", "-hide_banner", "-loglevel", "error", "-version")
    attempt(
        "/usr/bin/python3",
        "-I",
        "-S",
        "-c",
        "import sys; sys.path.insert(0, '/usr/lib'); import encoder.program, encoder.supervisor",
    )
    set_apart()
