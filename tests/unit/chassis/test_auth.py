"""Tokens: what is verified, what is refused and how often keys are fetched."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.chassis.auth import AuthConfig, Role, Verifier, bearer
from services.chassis.errors import TokenExpired, TokenInvalid, TokenMissing, Unavailable
from services.chassis.keys import FileKeys, HttpKeys, KeysUnavailable, SecretKey
from tests.support.clock import ManualClock
from tests.support.tokens import Issuer

USER = uuid4()


class CountedKeys:
    """A key source that counts its fetches and can be down."""

    def __init__(self, *issuers: Issuer) -> None:
        self.issuers = list(issuers)
        self.fetches = 0
        self.down = False

    async def fetch(self) -> Sequence[Mapping[str, Any]]:
        self.fetches += 1
        if self.down:
            raise KeysUnavailable("down")
        return [key for issuer in self.issuers for key in await issuer.fetch()]


def verifier(source: Any, clock: ManualClock | None = None, **config: Any) -> Verifier:
    return Verifier(source, AuthConfig(**config), clock=clock)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


async def test_a_token_becomes_its_principal() -> None:
    issuer, session = Issuer(), uuid4()
    token = issuer.token(USER, session_id=str(session), act={"sub": str(UUID(int=1))})
    principal = await verifier(issuer).verify(token)
    assert principal.subject == USER
    assert principal.role is Role.AUTHENTICATED
    assert principal.session_id == session
    assert principal.impersonator == UUID(int=1)
    assert principal.token == token
    assert principal.expires_at is not None
    assert principal.expires_at > datetime.now(UTC)


async def test_a_principal_does_not_print_its_token() -> None:
    issuer = Issuer()
    token = issuer.token(USER)
    assert token not in repr(await verifier(issuer).verify(token))


async def test_a_service_has_no_subject_and_needs_no_audience() -> None:
    issuer = Issuer()
    token = issuer.token(USER, role="service_role", aud=None, sub="streams")
    principal = await verifier(issuer).verify(token)
    assert (principal.role, principal.subject) == (Role.SERVICE, None)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "elsewhere"},
        {"aud": None},
        {"aud": ["a", "b"]},
        {"role": "superuser"},
        {"role": None},
        {"sub": "not-a-uuid"},
        {"sub": None},
        {"exp": None},
        {"exp": "tomorrow"},
        {"exp": 10**30},
        {"nbf": 10**11},
        {"session_id": "x"},
        {"act": "x"},
        {"role": "service_role", "aud": "elsewhere"},
    ],
    ids=str,
)
async def test_a_signed_token_with_wrong_claims_is_refused(claims: dict[str, Any]) -> None:
    issuer = Issuer()
    with pytest.raises(TokenInvalid):
        await verifier(issuer).verify(issuer.token(USER, **claims))


async def test_one_audience_of_several_is_enough() -> None:
    issuer = Issuer()
    token = issuer.token(USER, aud=["elsewhere", "authenticated"])
    assert (await verifier(issuer).verify(token)).subject == USER


async def test_another_issuer_is_refused_where_one_is_named() -> None:
    issuer = Issuer()
    strict = verifier(issuer, issuer="https://us.example")
    with pytest.raises(TokenInvalid):
        await strict.verify(issuer.token(USER, iss="https://them.example"))
    assert await strict.verify(issuer.token(USER, iss="https://us.example"))


async def test_an_expired_token_is_refused_as_expired() -> None:
    issuer = Issuer()
    with pytest.raises(TokenExpired):
        await verifier(issuer).verify(issuer.token(USER, lifetime=timedelta(seconds=-60)))


async def test_clocks_may_differ_by_the_leeway() -> None:
    issuer = Issuer()
    assert await verifier(issuer).verify(issuer.token(USER, lifetime=timedelta(seconds=-2)))


async def test_a_token_signed_by_another_key_of_the_same_name_is_refused() -> None:
    with pytest.raises(TokenInvalid):
        await verifier(Issuer()).verify(Issuer().token(USER))


async def test_a_changed_payload_is_refused() -> None:
    issuer = Issuer()
    header, payload, signature = issuer.token(USER).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["role"] = "service_role"
    forged = f"{header}.{b64(json.dumps(claims).encode())}.{signature}"
    with pytest.raises(TokenInvalid):
        await verifier(issuer).verify(forged)


async def test_no_signature_at_all_is_refused() -> None:
    issuer = Issuer()
    payload = issuer.token(USER).split(".")[1]
    for header in ({"alg": "none"}, {"alg": "none", "kid": "test-key"}, {"alg": "None"}, {}):
        for signature in ("", "x"):
            with pytest.raises(TokenInvalid):
                await verifier(issuer).verify(f"{b64(json.dumps(header).encode())}.{payload}.{signature}")


async def test_a_public_key_is_not_taken_for_a_shared_secret() -> None:
    # The classic confusion: HS256 with the PEM of the public key as the secret.
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))

    class Source:
        async def fetch(self) -> Sequence[Mapping[str, Any]]:
            return [{**public, "kid": "r", "alg": "RS256"}]

    claims = {"sub": str(USER), "role": "authenticated", "aud": "authenticated", "exp": time.time() + 60}
    body = f"{b64(json.dumps({'alg': 'HS256', 'kid': 'r'}).encode())}.{b64(json.dumps(claims).encode())}"
    forged = f"{body}.{b64(hmac.digest(pem, body.encode(), hashlib.sha256))}"
    with pytest.raises(TokenInvalid):
        await verifier(Source()).verify(forged)
    genuine = jwt.encode(claims, private, algorithm="RS256", headers={"kid": "r"})
    assert (await verifier(Source()).verify(genuine)).subject == USER


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "é.é.é", "eyJ.eyJ.x", "a" * 10_000, "a.b.c.d.e"])
async def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(TokenInvalid):
        await verifier(Issuer()).verify(token)


async def test_a_verified_token_is_remembered_for_a_minute() -> None:
    source, clock = CountedKeys(Issuer()), ManualClock()
    checks = verifier(source, clock)
    token = source.issuers[0].token(USER)
    principal = await checks.verify(token)
    assert checks.recall(token) is principal
    await clock.advance(59)
    assert checks.recall(token) is principal
    await clock.advance(2)
    assert checks.recall(token) is None


async def test_a_remembered_token_still_expires() -> None:
    source, clock = CountedKeys(Issuer()), ManualClock()
    checks = verifier(source, clock)
    token = source.issuers[0].token(USER, lifetime=timedelta(seconds=20))
    await checks.verify(token)
    await clock.advance(30)
    with pytest.raises(TokenExpired):
        await checks.verify(token)


async def test_a_revoked_key_is_noticed_within_its_age_and_a_minute() -> None:
    issuer = Issuer(kid="old")
    source, clock = CountedKeys(issuer), ManualClock()
    checks = verifier(source, clock)
    token = issuer.token(USER)
    await checks.verify(token)
    source.issuers = [Issuer(kid="new")]
    await clock.advance(601)
    with pytest.raises(TokenInvalid):
        await checks.verify(token)


async def test_what_is_remembered_is_bounded() -> None:
    issuer = Issuer()
    checks = verifier(issuer, cache_size=3)
    tokens = [issuer.token(uuid4()) for _ in range(5)]
    for token in tokens:
        await checks.verify(token)
    assert [checks.recall(token) is not None for token in tokens] == [False, False, True, True, True]


async def test_a_new_key_is_fetched_when_it_is_first_seen() -> None:
    source, clock = CountedKeys(Issuer(kid="one")), ManualClock()
    checks = verifier(source, clock)
    await checks.verify(source.issuers[0].token(USER))
    source.issuers.append(Issuer(kid="two"))
    await clock.advance(31)
    assert await checks.verify(source.issuers[1].token(USER))
    assert source.fetches == 2


async def test_a_flood_of_unknown_key_ids_fetches_once_per_cool_down() -> None:
    source, clock = CountedKeys(Issuer()), ManualClock()
    checks = verifier(source, clock)
    await checks.verify(source.issuers[0].token(USER))
    await clock.advance(31)

    async def unknown(number: int) -> None:
        with pytest.raises(TokenInvalid):
            await checks.verify(Issuer(kid=f"unknown{number}").token(USER))

    await asyncio.gather(*(unknown(number) for number in range(100)))
    assert source.fetches == 2
    await clock.advance(29)
    await unknown(101)
    assert source.fetches == 2
    await clock.advance(2)
    await unknown(102)
    assert source.fetches == 3


async def test_many_calls_at_the_start_fetch_once() -> None:
    source = CountedKeys(Issuer())
    checks = verifier(source)
    tokens = [source.issuers[0].token(uuid4()) for _ in range(50)]
    await asyncio.gather(*(checks.verify(token) for token in tokens))
    assert source.fetches == 1


async def test_without_any_keys_nobody_is_refused_but_asked_to_wait() -> None:
    source, clock = CountedKeys(Issuer()), ManualClock()
    source.down = True
    checks = verifier(source, clock)
    with pytest.raises(Unavailable) as caught:
        await checks.verify(source.issuers[0].token(USER))
    assert caught.value.metadata == {"dependency": "keys"}
    source.down = False
    await clock.advance(1.1)
    assert await checks.verify(source.issuers[0].token(USER))


async def test_keys_at_hand_outlive_an_outage_of_their_source_but_not_for_ever() -> None:
    source, clock = CountedKeys(Issuer()), ManualClock()
    checks = verifier(source, clock)
    token = source.issuers[0].token(USER, lifetime=timedelta(hours=5))
    await checks.verify(token)
    source.down = True
    await clock.advance(1800)
    assert await checks.verify(token)
    await clock.advance(1801)
    with pytest.raises(Unavailable):
        await checks.verify(token)


async def test_a_key_that_makes_no_sense_does_not_hide_the_others() -> None:
    issuer = Issuer()

    class Source:
        async def fetch(self) -> Sequence[Mapping[str, Any]]:
            return [{"kty": "EC", "crv": "nonsense"}, {}, *await issuer.fetch()]

    assert (await verifier(Source()).verify(issuer.token(USER))).subject == USER


async def test_a_shared_secret_verifies_and_nothing_weaker_does(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = "a-secret-of-at-least-thirty-two-bytes"
    file.write_text(f"{secret}\n")
    checks = verifier(SecretKey(file))
    claims = {"sub": str(USER), "role": "authenticated", "aud": "authenticated", "exp": time.time() + 60}
    assert (await checks.verify(jwt.encode(claims, secret, algorithm="HS256"))).subject == USER
    with pytest.raises(TokenInvalid):
        await checks.verify(jwt.encode(claims, secret[:-1] + "x", algorithm="HS256"))
    file.write_text("short")
    with pytest.raises(Unavailable):
        await verifier(SecretKey(file)).verify(jwt.encode(claims, secret, algorithm="HS256"))


async def test_keys_come_from_a_file(tmp_path: Path) -> None:
    issuer, file = Issuer(), tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": await issuer.fetch()}))
    assert (await verifier(FileKeys(file)).verify(issuer.token(USER))).subject == USER


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', '{"keys": [1]}', "not json"])
async def test_a_file_that_is_no_key_set_is_no_keys(tmp_path: Path, text: str) -> None:
    file = tmp_path / "jwks.json"
    file.write_text(text)
    with pytest.raises(KeysUnavailable):
        await FileKeys(file).fetch()


async def test_keys_come_over_http_in_bounded_size() -> None:
    issuer = Issuer()
    bodies = [json.dumps({"keys": await issuer.fetch()}).encode(), b"x" * 300_000]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = bodies.pop(0)
        writer.write(b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        source = HttpKeys(f"http://127.0.0.1:{port}/jwks.json")
        assert (await verifier(source).verify(issuer.token(USER))).subject == USER
        with pytest.raises(KeysUnavailable, match="more than"):
            await source.fetch()
    with pytest.raises(KeysUnavailable):
        await source.fetch()


def test_keys_come_over_http_only() -> None:
    with pytest.raises(ValueError, match="http"):
        HttpKeys("file:///etc/passwd")


def test_two_sources_of_keys_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one of"):
        AuthConfig(jwks_file=tmp_path, jwks_url="http://x")
    assert AuthConfig().key_source() is None
    assert isinstance(AuthConfig(jwks_file=tmp_path).key_source(), FileKeys)
    assert isinstance(AuthConfig(jwks_url="http://x").key_source(), HttpKeys)
    assert isinstance(AuthConfig(secret_file=tmp_path).key_source(), SecretKey)


def test_the_bearer_scheme_is_read_as_rfc_6750_writes_it() -> None:
    assert bearer("Bearer abc") == "abc"
    assert bearer("bearer abc") == "abc"
    for header in (None, ""):
        with pytest.raises(TokenMissing):
            bearer(header)
    for header in ("Bearer", "Bearer ", "Basic abc", "abc"):
        with pytest.raises(TokenInvalid):
            bearer(header)
