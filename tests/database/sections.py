"""SQL for tests, in files: sections begin with a line `-- [name]`."""

import re
from pathlib import Path

_HEADING = re.compile(r"^-- \[([^]]+)\].*\n", re.MULTILINE)


def sections(name: str) -> dict[str, str]:
    """The sections of a file in this folder."""
    _, *parts = _HEADING.split(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return {heading: text.strip() for heading, text in zip(parts[::2], parts[1::2], strict=True)}
