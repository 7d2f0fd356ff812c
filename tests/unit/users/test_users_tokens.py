from base64 import b64decode

from services.chassis.vault import Vault
from services.users.tokens import first_refresh_token, refresh_token_after, refresh_token_hash


def _vault() -> Vault:
    return Vault([b64decode(Vault.new_key())])


def test_first_refresh_tokens_differ_and_fit_the_request() -> None:
    drawn = {first_refresh_token() for _ in range(100)}
    assert len(drawn) == 100
    assert all(len(token) == 43 for token in drawn)


def test_successor_is_said_again_by_whoever_holds_parent_and_vault() -> None:
    vault, token = _vault(), first_refresh_token()
    assert refresh_token_after(token, vault) == refresh_token_after(token, vault)
    assert len(refresh_token_after(token, vault)) == 43


def test_successor_cannot_be_said_under_another_key() -> None:
    token = first_refresh_token()
    assert refresh_token_after(token, _vault()) != refresh_token_after(token, _vault())


def test_successions_lead_down_one_line() -> None:
    vault, token = _vault(), first_refresh_token()
    third = refresh_token_after(refresh_token_after(refresh_token_after(token, vault), vault), vault)
    assert refresh_token_after(token, vault, steps=3) == third
    assert len({token, refresh_token_after(token, vault), third}) == 3


def test_successor_survives_a_new_sealing_key() -> None:
    old, new = b64decode(Vault.new_key()), b64decode(Vault.new_key())
    token = first_refresh_token()
    assert refresh_token_after(token, Vault([old])) == refresh_token_after(token, Vault([new, old]))


def test_hash_says_nothing_of_the_token() -> None:
    token = first_refresh_token()
    assert len(refresh_token_hash(token)) == 32
    assert token.encode() not in refresh_token_hash(token)
