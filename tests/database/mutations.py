"""Every way to weaken what protects the data, made from the catalogs: what is added later is covered."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from tests.database.access import ROLES
from tests.database.sections import sections
from tests.support.database import Connection

SOURCES: Final = sections("mutations.sql")


@dataclass(frozen=True, slots=True)
class Mutation:
    """Statements that make one thing worse."""

    kind: str
    sql: str


async def mutations(connection: Connection) -> AsyncIterator[Mutation]:
    """All there are, over a connection that access.settle() has readied."""
    for kind, query in SOURCES.items():
        arguments = [list(ROLES)] if "$1" in query.replace("%1$", "") else []
        for row in await connection.fetch(query, *arguments):
            yield Mutation(kind, row[0])
