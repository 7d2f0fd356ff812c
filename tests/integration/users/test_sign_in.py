import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import grpc
import pytest

from services.chassis.errors import InvalidField, RateLimited, from_rpc_error
from services.users.config import Config, PasswordConfig
from services.users.errors import CredentialsInvalid, EmailUnavailable
from streamax.users.v1 import auth_service_pb2, user_pb2
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support.database import Database
from tests.support.refusals import refused
from tests.support.tokens import bearer
from tests.support.users import PASSWORD, Client, claims_of, client_of


async def test_sign_up_makes_a_profile_without_package_and_signs_it_in(client: Client) -> None:
    response = await client.sign_up("Ada@Example.com")
    user = response.user
    assert user.email == "ada@example.com"
    assert user.role == user_pb2.USER_ROLE_USER
    assert user.package_type == user_pb2.PACKAGE_TYPE_UNSPECIFIED
    assert not user.HasField("package_expires_at")
    assert (user.streams_allowed, user.streams_active) == (0, 0)
    assert abs(user.create_time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)).total_seconds() < 60
    assert await client.users.GetMe(GetMeRequest(), metadata=bearer(response.tokens.access_token)) == user


async def test_sign_in_with_the_password_of_the_sign_up(client: Client) -> None:
    made = await client.sign_up("ada@example.com")
    response = await client.sign_in("ADA@example.com")
    assert response.user == made.user
    assert response.tokens.expires_in.ToTimedelta().total_seconds() == 3600
    assert response.tokens.refresh_token != made.tokens.refresh_token


async def test_access_token_has_the_claims_of_supabase(client: Client) -> None:
    made = await client.sign_up("ada@example.com")
    claims = claims_of(made.tokens.access_token)
    assert claims["sub"] == made.user.id
    assert claims["role"] == claims["aud"] == "authenticated"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["email"] == "ada@example.com"
    assert claims["is_anonymous"] is False
    assert {"iss", "session_id", "aal", "phone", "app_metadata", "user_metadata"} <= claims.keys()
    assert await client.value("SELECT session_id FROM private.refresh_tokens") == UUID(claims["session_id"])


async def test_each_sign_in_is_a_session_of_its_own(client: Client) -> None:
    await client.sign_up("ada@example.com")
    sessions = set()
    for _ in range(2):
        response = await client.sign_in("ada@example.com")
        sessions.add(claims_of(response.tokens.access_token)["session_id"])
    assert len(sessions) == 2


@pytest.mark.parametrize("again", ["ada@example.com", "ADA@example.com", "Ada@Example.COM"])
async def test_address_is_used_once_in_whatever_case(client: Client, again: str) -> None:
    await client.sign_up("Ada@example.com")
    with refused(EmailUnavailable):
        await client.sign_up(again)
    assert await client.value("SELECT count(*) FROM auth.users") == 1


async def test_of_twenty_sign_ups_at_once_with_one_address_one_succeeds(client: Client) -> None:
    spellings = [("ada@example.com", "Ada@example.com")[n % 2] for n in range(20)]
    outcomes = await asyncio.gather(*map(client.sign_up, spellings), return_exceptions=True)
    errors = [from_rpc_error(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    assert [type(error) for error in errors] == [EmailUnavailable] * 19
    for table in ("auth.users", "public.users", "private.credentials", "private.refresh_tokens"):
        assert await client.value(f"SELECT count(*) FROM {table}") == 1


async def test_refused_sign_up_leaves_nothing_behind(client: Client) -> None:
    # Another profile has the address, though no account does: single sign-on can bring that about.
    taken = await client.sign_up()
    await client.execute(
        "UPDATE public.users SET email = 'ada@example.com' WHERE id = $1", UUID(taken.user.id)
    )
    with refused(EmailUnavailable):
        await client.sign_up("ada@example.com")
    assert await client.value("SELECT count(*) FROM auth.users") == 1


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("", PASSWORD, "email"),
        ("not an address", PASSWORD, "email"),
        (f"{'a' * 250}@example.com", PASSWORD, "email"),
        ("ada\0@example.com", PASSWORD, "email"),
        ("ada@example.com", "too short", "password"),
        ("ada@example.com", "x" * 257, "password"),
    ],
)
async def test_sign_up_names_the_field_that_is_wrong(
    client: Client, email: str, password: str, field: str
) -> None:
    with refused(InvalidField) as refusal:
        await client.auth.SignUp(auth_service_pb2.SignUpRequest(email=email, password=password))
    assert {each.field for each in refusal.error.fields} == {field}
    assert await client.value("SELECT count(*) FROM auth.users") == 0


async def test_wrong_password_and_unknown_address_are_one_answer_to_the_byte(client: Client) -> None:
    await client.sign_up("ada@example.com")
    with refused(CredentialsInvalid) as wrong:
        await client.sign_in("ada@example.com", "wrong horse battery")
    with refused(CredentialsInvalid) as unknown:
        await client.sign_in("eve@example.com")
    assert wrong.answer == unknown.answer


async def test_address_that_no_database_can_hold_is_refused_by_name(client: Client) -> None:
    with refused(InvalidField) as refusal:
        await client.sign_in("ada\0@example.com")
    assert [each.field for each in refusal.error.fields] == ["email"]


async def test_password_that_any_text_can_be(client: Client) -> None:
    password = "\0\u202eñandú 🔑 " + "x" * 20
    await client.sign_up("ada@example.com", password)
    assert (await client.sign_in("ada@example.com", password)).user.email == "ada@example.com"
    with refused(CredentialsInvalid):
        await client.sign_in("ada@example.com", password.rstrip("x"))


async def test_account_without_credentials_is_like_an_unknown_one(client: Client) -> None:
    made = await client.sign_up("ada@example.com")
    await client.execute("DELETE FROM private.credentials WHERE user_id = $1", UUID(made.user.id))
    with refused(CredentialsInvalid):
        await client.sign_in("ada@example.com")


async def test_hash_is_renewed_when_the_stated_cost_has_changed(
    client: Client, config: Config, database: Database
) -> None:
    await client.sign_up("ada@example.com")
    dearer = replace(config, passwords=PasswordConfig(time_cost=2, memory_kib=16, queue=200))
    async with client_of(dearer, database) as later:
        # At once, for each would renew it: none may be refused because another was first.
        await asyncio.gather(*(later.sign_in("ada@example.com") for _ in range(8)))
        assert "m=16,t=2" in await later.value("SELECT password_hash FROM private.credentials")
        await later.sign_in("ada@example.com")


async def test_sign_in_with_a_password_changed_meanwhile_opens_no_session(client: Client) -> None:
    made = await client.sign_up("ada@example.com")
    async with client.database.connect() as admin:
        async with admin.transaction():
            # Holds the row, so the sign-in has read and compared before the change shows.
            await admin.execute(
                "UPDATE private.credentials SET updated_at = now() + interval '1 s' WHERE user_id = $1",
                UUID(made.user.id),
            )
            signing_in = asyncio.create_task(client.sign_in("ada@example.com"))
            await client.wait_for_waiters()
        with refused(CredentialsInvalid):
            await signing_in
    assert await client.value("SELECT count(*) FROM private.refresh_tokens") == 1


async def test_other_calls_are_answered_while_passwords_queue(config: Config, database: Database) -> None:
    slow = replace(config, passwords=PasswordConfig(time_cost=2, memory_kib=65536, workers=1, queue=50))
    async with client_of(slow, database) as client:
        token = (await client.sign_up("ada@example.com")).tokens.access_token
        signing_in = [asyncio.create_task(client.sign_in("ada@example.com")) for _ in range(12)]
        for _ in range(10):
            await client.users.GetMe(GetMeRequest(), metadata=bearer(token))
        assert not all(each.done() for each in signing_in)
        await asyncio.gather(*signing_in)


async def test_sign_ins_beyond_the_queue_are_told_when_to_return(config: Config, database: Database) -> None:
    slow = replace(config, passwords=PasswordConfig(time_cost=2, memory_kib=65536, workers=1, queue=1))
    async with client_of(slow, database) as client:
        await client.sign_up("ada@example.com")
        addresses = ["ada@example.com", "eve@example.com"] * 4
        outcomes = await asyncio.gather(*map(client.sign_in, addresses), return_exceptions=True)
    errors = [from_rpc_error(each) for each in outcomes if isinstance(each, grpc.aio.AioRpcError)]
    turned_away = [error for error in errors if isinstance(error, RateLimited)]
    # One hashes and one waits.
    assert len(turned_away) == 6
    assert all(error.retry_after and error.metadata == {"limit": "2"} for error in turned_away)
