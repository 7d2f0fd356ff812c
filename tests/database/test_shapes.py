from tests.support.database import Database, add_user


async def test_signup(shaped: Database) -> None:
    async with shaped.connect() as c:
        print(await add_user(c))
