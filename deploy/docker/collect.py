"""Gathers Python, its standard library, certificates and shared libraries into a folder that becomes an image.

Runs inside the build, on any Debian-like base:  python3 -I collect.py FOLDER
"""

import compileall
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

#: Of the standard library, what no program at run time needs; half its size.
LEFT_OUT = ("test", "idlelib", "lib2to3", "ensurepip", "tkinter", "turtledemo", "pydoc_data", "distutils")

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def main(image: Path) -> None:
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    put(image, python)
    (image / "usr/bin/python3").unlink(missing_ok=True)
    (image / "usr/bin/python3").symlink_to(python)
    shutil.copytree(
        library,
        image / library.relative_to("/"),
        ignore=shutil.ignore_patterns("__pycache__", "config-*", "dist-packages", *LEFT_OUT),
    )
    modules = list((library / "lib-dynload").glob("*.so"))
    for needed in libraries([python, *modules, image / "usr/bin/ffmpeg"]):
        put(image, needed)
    # glibc loads these by name to resolve hosts.
    for plugin in ("libnss_dns.so.2", "libnss_files.so.2", "libresolv.so.2"):
        for found in Path("/lib").glob(f"*/{plugin}"):
            put(image, found)
    put(image, CERTIFICATES)
    (image / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    (image / "etc/passwd").write_text("nobody:x:65534:65534:nobody:/:/nonexistent\n")
    for empty in ("tmp", "media", "proc", "sys", "dev", "run"):
        (image / empty).mkdir(exist_ok=True)
    (image / "usr/bin/ffmpeg").chmod(0o755)
    # The image is read-only where it runs: what is not compiled now is compiled at every start.
    for folder in (image / library.relative_to("/"), image / "opt/encoder"):
        compileall.compile_dir(
            folder,
            quiet=1,
            workers=os.cpu_count() or 1,
            stripdir=str(image),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def libraries(programs: list[Path]) -> set[Path]:
    """Every shared library the programs load, and the loader, at the paths they are asked for by."""
    # glibc's loader resolves for all of them, as it will when they run.
    listing = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=True).stdout
    paths = (
        line.rpartition("=> ")[2].split(" (")[0].strip() for line in listing.splitlines() if " (0x" in line
    )
    return {Path(path) for path in paths if path.startswith("/")}


def put(image: Path, source: Path) -> None:
    """The file itself at the same path below the image, whatever links lead to it."""
    target = image / source.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source.resolve(), target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
