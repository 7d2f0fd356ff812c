from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from services.chassis.database import Database
from services.chassis.errors import (
    Error,
    ResourceNotFound,
    RoleRequired,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from services.chassis.vault import Vault
from services.users.config import Config
from services.users.keys import KeyRing, SigningKey
from streamax.users.v1.user_admin_service_pb2 import GrantPackageRequest
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support.refusals import refused
from tests.support.tokens import Issuer, bearer
from tests.support.users import Client, claims_of


@pytest.fixture
async def signing_key(client: Client, config: Config) -> AsyncIterator[SigningKey]:
    """The service's own, which only its vault gives away."""
    async with Database(config.database, application_name="tests") as db:
        ring = KeyRing(db, Vault.open(config.vault_key_file))
        await ring.open()
        yield ring.current


def sign(claims: dict[str, Any], key: SigningKey) -> str:
    return jwt.encode(claims, key.private, algorithm="ES256", headers={"kid": key.kid})


async def get_me(client: Client, token: str) -> Any:
    return await client.users.GetMe(GetMeRequest(), metadata=bearer(token))


async def test_call_without_token_is_refused(client: Client) -> None:
    with refused(TokenMissing):
        await client.users.GetMe(GetMeRequest())


@pytest.mark.parametrize("scheme", ["Basic YTpi", "Bearer", "Bearer ", "token"])
async def test_header_that_bears_no_token_is_refused(client: Client, scheme: str) -> None:
    with refused(TokenInvalid):
        await client.users.GetMe(GetMeRequest(), metadata=(("authorization", scheme),))


async def test_token_signed_by_somebody_else_is_refused_even_under_our_key_id(
    client: Client, signing_key: SigningKey
) -> None:
    made = await client.sign_up()
    with refused(TokenInvalid):
        await get_me(client, Issuer(kid=signing_key.kid).token(UUID(made.user.id)))


async def test_token_changed_after_signing_is_refused(client: Client) -> None:
    ada, eve = await client.sign_up(), await client.sign_up()
    header, _, signature = eve.tokens.access_token.split(".")
    _, claims, _ = ada.tokens.access_token.split(".")
    with refused(TokenInvalid):
        await get_me(client, f"{header}.{claims}.{signature}")


async def test_unsigned_token_is_refused(client: Client) -> None:
    made = await client.sign_up()
    with refused(TokenInvalid):
        await get_me(client, jwt.encode(claims_of(made.tokens.access_token), "", algorithm="none"))


async def test_token_signed_with_the_public_key_as_secret_is_refused(
    client: Client, signing_key: SigningKey
) -> None:
    made = await client.sign_up()
    public = signing_key.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    forged = jwt.encode(
        claims_of(made.tokens.access_token), public, algorithm="HS256", headers={"kid": signing_key.kid}
    )
    with refused(TokenInvalid):
        await get_me(client, forged)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda claims: claims | {"exp": claims["iat"] - 60}, TokenExpired),
        (lambda claims: claims | {"aud": "somebody-else"}, TokenInvalid),
        (lambda claims: claims | {"role": "anon"}, RoleRequired),
        (lambda claims: claims | {"role": "admin"}, TokenInvalid),
        (lambda claims: claims | {"sub": "me"}, TokenInvalid),
        (lambda claims: {name: claims[name] for name in claims if name != "exp"}, TokenInvalid),
        (lambda claims: {name: claims[name] for name in claims if name != "sub"}, TokenInvalid),
        (lambda claims: claims | {"sub": str(uuid4())}, ResourceNotFound),
    ],
)
async def test_token_of_ours_with_other_claims_is_refused(
    client: Client,
    signing_key: SigningKey,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    kind: type[Error],
) -> None:
    made = await client.sign_up()
    with refused(kind):
        await get_me(client, sign(change(claims_of(made.tokens.access_token)), signing_key))


@pytest.mark.parametrize(
    "claims",
    [
        {"role": "admin"},
        {"role": "service_role"},
        {"app_metadata": {"role": "admin"}},
        {"user_metadata": {"role": "admin"}},
        {"user_role": "admin", "is_admin": True},
    ],
)
async def test_no_claim_makes_an_administrator(
    client: Client, signing_key: SigningKey, claims: dict[str, Any]
) -> None:
    made = await client.sign_up()
    token = sign(claims_of(made.tokens.access_token) | claims, signing_key)
    request = GrantPackageRequest(user_id=made.user.id, package_type="PACKAGE_TYPE_PRO")
    with refused(TokenInvalid if claims.get("role") == "admin" else RoleRequired):
        await client.admin.GrantPackage(request, metadata=bearer(token))
    assert await client.value("SELECT count(*) FROM private.package_grants") == 0


async def test_token_that_has_just_expired_is_refused(client: Client, signing_key: SigningKey) -> None:
    made = await client.sign_up()
    past = datetime.now(UTC) - timedelta(seconds=6)
    token = sign(claims_of(made.tokens.access_token) | {"exp": past.timestamp()}, signing_key)
    with refused(TokenExpired):
        await get_me(client, token)


async def test_each_caller_sees_their_own_account_over_one_shared_pool(client: Client) -> None:
    made = [await client.sign_up() for _ in range(5)]
    for _ in range(4):
        for each in made:
            assert await get_me(client, each.tokens.access_token) == each.user


async def test_own_account_alone_is_read_even_if_a_policy_let_all_be_seen(client: Client) -> None:
    await client.execute("CREATE POLICY leak ON public.users FOR SELECT TO streamax_users USING (true)")
    made = [await client.sign_up() for _ in range(3)]
    for each in made:
        assert await get_me(client, each.tokens.access_token) == each.user


async def test_row_level_security_holds_for_reading_ones_own_account(client: Client) -> None:
    made = await client.sign_up()
    await client.execute("DROP POLICY users_read_own ON public.users")
    with refused(ResourceNotFound):
        await get_me(client, made.tokens.access_token)


async def test_service_role_sees_no_profile_it_has_not_named_and_no_secret_at_all(client: Client) -> None:
    made = await client.sign_up()
    async with client.database.connect("streamax_users") as connection:
        assert await connection.fetchval("SELECT count(*) FROM private.accounts") == 0
        mine = await connection.fetchval("SELECT email FROM private.get_me($1)", UUID(made.user.id))
        assert mine == made.user.email
        assert await connection.fetchval("SELECT count(*) FROM private.accounts") == 0
        for table in ("credentials", "refresh_tokens", "signing_keys", "package_grants", "idempotency"):
            with pytest.raises(Exception, match="permission denied"):
                await connection.fetch(f"SELECT * FROM private.{table}")
        for function in ("begin_session(NULL, NULL, NULL, NULL)", "derive_entitlement(NULL)"):
            with pytest.raises(Exception, match="permission denied"):
                await connection.fetch(f"SELECT private.{function}")


async def test_other_services_cannot_call_what_is_ours(client: Client) -> None:
    async with client.database.connect("streamax_streams") as connection:
        for call in (
            "find_credentials('ada@example.com')",
            "list_signing_keys()",
            "rotate_refresh_token(NULL, NULL, NULL, NULL)",
            "grant_package(NULL, NULL, NULL, NULL, NULL, NULL)",
            "get_me(NULL)",
        ):
            with pytest.raises(Exception, match="permission denied"):
                await connection.fetch(f"SELECT * FROM private.{call}")
