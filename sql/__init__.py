"""All SQL of the product, one folder per owner; this module only finds and names it.

<owner>/migrations/NNNN_name.sql   applied once, in the order of their numbers over all owners
<owner>/functions/*.sql            applied again whenever they change, after the migrations
<owner>/policies.sql               likewise, after the functions
<owner>/queries/*.sql              statements by name, for the stores
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from types import MappingProxyType
from typing import Final

__all__ = ["OWNERS", "File", "migrations", "queries", "repeatables"]

#: The order in which functions and policies are applied.
OWNERS: Final = ("platform", "users", "streams", "monitoring", "backup")

_MIGRATION: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_QUERY: Final = re.compile(r"^-- name: (\w+) :(?:one|many|exec)\n(?:-- .*\n)*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class File:
    """One script. `name` is its path from this folder, and its identity in the database."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Of the text as lines, so that a checkout with other line ends is the same file."""
        return sha256("\n".join(self.text.splitlines()).encode()).hexdigest()

    @property
    def number(self) -> int:
        """Place in the one sequence of migrations; 0 for a repeatable."""
        found = _MIGRATION.fullmatch(self.name.rpartition("/")[2])
        return int(found[1]) if found else 0


@cache
def migrations() -> tuple[File, ...]:
    """All migrations in order. Raises ValueError for a misnamed file or a number used twice."""
    found = [one for owner in OWNERS for one in _scripts(f"{owner}/migrations")]
    if misnamed := [one.name for one in found if not one.number]:
        raise ValueError(f"not NNNN_name.sql: {', '.join(misnamed)}")
    ordered = sorted(found, key=lambda one: one.number)
    for before, after in pairwise(ordered):
        if before.number == after.number:
            raise ValueError(f"one number, two migrations: {before.name}, {after.name}")
    return tuple(ordered)


@cache
def repeatables() -> tuple[File, ...]:
    """All functions, then all policies, each in the order of OWNERS."""
    functions = [one for owner in OWNERS for one in _scripts(f"{owner}/functions")]
    policies = [one for owner in OWNERS for one in _scripts(owner) if one.name.endswith("/policies.sql")]
    return (*functions, *policies)


@cache
def queries(owner: str) -> Mapping[str, str]:
    """The owner's statements by name. Raises ValueError for a name used twice."""
    found: dict[str, str] = {}
    for script in _scripts(f"{owner}/queries"):
        heads = list(_QUERY.finditer(script.text))
        ends = [head.start() for head in heads[1:]] + [len(script.text)]
        for head, end in zip(heads, ends, strict=True):
            if head[1] in found:
                raise ValueError(f"one name, two queries: {head[1]} in {script.name}")
            found[head[1]] = script.text[head.end() : end].strip().removesuffix(";")
    return MappingProxyType(found)


def _scripts(folder: str) -> Iterator[File]:
    place: Traversable = files("sql").joinpath(folder)
    if not place.is_dir():
        return
    for entry in sorted(place.iterdir(), key=lambda one: one.name):
        if entry.is_file() and entry.name.endswith(".sql"):
            yield File(f"{folder}/{entry.name}", entry.read_text(encoding="utf-8"))
