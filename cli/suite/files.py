"""The run folder: everything of one run, and nothing of it elsewhere."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def run_folder() -> Iterator[Path]:
    """A folder for one run, gone with all in it afterwards.

    Others may pass through it, not look into it: an embedded PostgreSQL started
    by root is somebody else, and has a folder of its own in here.
    """
    folder = Path(tempfile.mkdtemp(prefix="streamax-"))
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        shutil.rmtree(folder)


def write_secret(path: Path, text: str) -> None:
    """A new file that only we can read, from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")


def write_toml(path: Path, table: Mapping[str, object]) -> Path:
    """Strings, numbers, booleans, lists of those, and tables of those."""
    path.write_text("\n".join(_lines(table, ())) + "\n", encoding="utf-8")
    return path


def _lines(table: Mapping[str, object], name: tuple[str, ...]) -> Iterator[str]:
    if name:
        yield f"[{'.'.join(name)}]"
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key, value in table.items():
        if key not in inner:
            # JSON's strings, numbers, booleans and lists are TOML's, too.
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield from _lines(value, (*name, key))
