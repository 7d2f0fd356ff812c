import asyncio
from collections.abc import Sequence
from datetime import timedelta

from services.chassis.vault import Vault
from services.users.config import Config
from services.users.errors import RefreshTokenInvalid
from services.users.tokens import refresh_token_after, refresh_token_hash
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support.database import Database
from tests.support.refusals import refused
from tests.support.tokens import bearer
from tests.support.users import Client, claims_of, client_of

LATER = timedelta(seconds=11)


async def wait(client: Client, interval: timedelta) -> None:
    """Time passes for every refresh token: the database's clock is the judge, so its past is moved."""
    await client.execute(
        "UPDATE private.refresh_tokens SET used_at = used_at - $1::interval,"
        " issued_at = issued_at - $1::interval, expires_at = expires_at - $1::interval",
        interval,
    )


async def chain(client: Client, length: int) -> Sequence[str]:
    """The refresh tokens of one session, each spent for the next but the last."""
    line = [(await client.sign_up()).tokens.refresh_token]
    while len(line) < length:
        line.append((await client.refresh(line[-1])).refresh_token)
    return line


async def test_refresh_gives_a_new_pair_of_the_same_session(client: Client) -> None:
    made = await client.sign_up("ada@example.com")
    tokens = await client.refresh(made.tokens.refresh_token)
    before, after = claims_of(made.tokens.access_token), claims_of(tokens.access_token)
    assert tokens.refresh_token != made.tokens.refresh_token
    assert tokens.expires_in.ToTimedelta() == timedelta(hours=1)
    assert {name: after[name] for name in ("sub", "session_id", "email")} == {
        name: before[name] for name in ("sub", "session_id", "email")
    }
    me = await client.users.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token))
    assert me.id == made.user.id


async def test_refresh_tokens_are_kept_only_as_hashes(client: Client) -> None:
    line = await chain(client, 3)
    async with client.database.connect() as admin:
        rows = await admin.fetch("SELECT t::text AS row, token_hash FROM private.refresh_tokens t")
    assert {row["token_hash"] for row in rows} == {refresh_token_hash(token) for token in line}
    assert not any(token in row["row"] for token in line for row in rows)


async def test_eight_refreshes_at_once_give_one_new_token_and_no_logout(client: Client) -> None:
    (token,) = await chain(client, 1)
    async with client.database.connect() as admin:
        async with admin.transaction():
            # None gets further than the token's row before all have arrived there.
            await admin.execute("SELECT FROM private.refresh_tokens FOR UPDATE")
            refreshing = [asyncio.create_task(client.refresh(token)) for _ in range(8)]
            await client.wait_for_waiters(8)
        answers = await asyncio.gather(*refreshing)
    assert len({answer.refresh_token for answer in answers}) == 1
    assert await client.value("SELECT count(*) FROM private.refresh_tokens") == 2
    await wait(client, LATER)
    assert await client.refresh(answers[0].refresh_token)


async def test_spent_token_within_the_interval_gets_the_same_successor(client: Client) -> None:
    line = await chain(client, 2)
    await wait(client, timedelta(seconds=8))
    assert (await client.refresh(line[0])).refresh_token == line[1]


async def test_spent_token_whose_successor_is_spent_gets_the_end_of_the_line(client: Client) -> None:
    line = await chain(client, 5)
    for token in line[:-1]:
        assert (await client.refresh(token)).refresh_token == line[-1]
    assert await client.value("SELECT count(*) FROM private.refresh_tokens") == 5


async def test_spent_token_after_the_interval_revokes_the_family(client: Client) -> None:
    line = await chain(client, 3)
    await wait(client, LATER)
    with refused(RefreshTokenInvalid):
        await client.refresh(line[1])
    for token in line:
        with refused(RefreshTokenInvalid):
            await client.refresh(token)


async def test_replay_revokes_its_own_family_only(client: Client) -> None:
    await client.sign_up("ada@example.com")
    stolen, other = [(await client.sign_in("ada@example.com")).tokens.refresh_token for _ in range(2)]
    await client.refresh(stolen)
    await wait(client, LATER)
    with refused(RefreshTokenInvalid):
        await client.refresh(stolen)
    assert await client.refresh(other)


async def test_rotation_racing_a_replay_leaves_no_live_token(client: Client) -> None:
    line = await chain(client, 2)
    await wait(client, LATER)
    # A refused replay and a rotation of the unspent token, in whatever order they meet.
    outcomes = await asyncio.gather(client.refresh(line[0]), client.refresh(line[1]), return_exceptions=True)
    assert isinstance(outcomes[0], Exception)
    if not isinstance(outcomes[1], BaseException):
        with refused(RefreshTokenInvalid):
            await client.refresh(outcomes[1].refresh_token)
    with refused(RefreshTokenInvalid):
        await client.refresh(line[1])


async def test_expired_token_is_refused_and_each_refresh_begins_the_lifetime_anew(client: Client) -> None:
    line = await chain(client, 1)
    await wait(client, timedelta(days=29))
    successor = (await client.refresh(line[0])).refresh_token
    await wait(client, timedelta(days=29))
    latest = (await client.refresh(successor)).refresh_token
    await wait(client, timedelta(days=31))
    with refused(RefreshTokenInvalid):
        await client.refresh(latest)


async def test_expired_token_revokes_nothing(client: Client) -> None:
    line = await chain(client, 2)
    await client.execute(
        "UPDATE private.refresh_tokens SET issued_at = issued_at - interval '1 h', expires_at = now()"
        " WHERE token_hash = $1",
        refresh_token_hash(line[0]),
    )
    with refused(RefreshTokenInvalid):
        await client.refresh(line[0])
    assert await client.refresh(line[1])


async def test_unknown_and_derived_tokens_are_refused_alike(client: Client, config: Config) -> None:
    line = await chain(client, 1)
    derived_elsewhere = refresh_token_after(line[0], Vault.open(config.vault_key_file))
    answers = []
    for token in ("x", "not a token", "\0", derived_elsewhere, "A" * 43):
        with refused(RefreshTokenInvalid) as refusal:
            await client.refresh(token)
        answers.append(refusal.answer)
    assert len(set(answers)) == 1
    # Known in advance, good for nothing: it exists once its parent has been spent.
    assert (await client.refresh(line[0])).refresh_token == derived_elsewhere


async def test_race_across_a_new_vault_is_refused_but_not_taken_for_theft(
    client: Client, config: Config, database: Database
) -> None:
    line = await chain(client, 2)
    # The signing keys belong to the old vault as well; a service that cannot open them does not start.
    await client.execute("DELETE FROM private.signing_keys")
    config.vault_key_file.write_text(Vault.new_key())
    async with client_of(config, database) as renewed:
        with refused(RefreshTokenInvalid):
            await renewed.refresh(line[0])
        assert await renewed.refresh(line[1])


async def test_session_of_a_deleted_account_ends(client: Client) -> None:
    made = await client.sign_up()
    await client.execute("DELETE FROM public.users")
    with refused(RefreshTokenInvalid):
        await client.refresh(made.tokens.refresh_token)
