"""The proof of the proof: weaken each policy, grant and setting in turn; the check must notice."""

from tests.database.access import Access, Inhabitants, expected, findings, settle
from tests.database.mutations import SOURCES, Mutation, mutations
from tests.support.database import Connection, Database


async def test_no_weakening_goes_unnoticed(shaped: Database) -> None:
    async with shaped.connect() as connection:
        access, people = expected(), await settle(connection)
        tried = [one async for one in mutations(connection)]
        unnoticed = [one for one in tried if not await _noticed(connection, one, access, people)]
        assert unnoticed == []
        # A source that finds nothing to weaken proves nothing.
        assert {one.kind for one in tried} == set(SOURCES)


async def _noticed(connection: Connection, mutation: Mutation, access: Access, people: Inhabitants) -> bool:
    """Whether the check says anything while the mutation is in force; nothing of it stays."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(mutation.sql)
        async for _ in findings(connection, access, people):
            return True
        return False
    finally:
        await transaction.rollback()
