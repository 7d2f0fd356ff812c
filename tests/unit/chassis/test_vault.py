"""Sealing: what is sealed opens for us, in its place, and for nobody else."""

import base64
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.vault import KeyFileRefused, SealBroken, Vault

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "vault.key"
    path.write_text(text)
    path.chmod(mode)
    return path


@given(st.binary(max_size=2000), st.binary(max_size=100))
def test_what_is_sealed_opens_in_its_context(plaintext: bytes, context: bytes) -> None:
    vault = Vault([KEY])
    assert vault.unseal(vault.seal(plaintext, context=context), context=context) == plaintext


def test_the_same_plaintext_never_seals_alike() -> None:
    vault = Vault([KEY])
    assert vault.seal(b"key", context=b"") != vault.seal(b"key", context=b"")


def test_a_value_moved_to_another_context_does_not_open() -> None:
    vault = Vault([KEY])
    sealed = vault.seal(b"key", context=b"session:1")
    with pytest.raises(SealBroken):
        vault.unseal(sealed, context=b"session:2")


def test_any_flipped_bit_is_noticed() -> None:
    vault = Vault([KEY])
    sealed = vault.seal(b"key", context=b"c")
    for position in range(len(sealed)):
        tampered = bytearray(sealed)
        tampered[position] ^= 1
        with pytest.raises(SealBroken):
            vault.unseal(bytes(tampered), context=b"c")


def test_anything_cut_short_is_noticed() -> None:
    vault = Vault([KEY])
    sealed = vault.seal(b"key", context=b"c")
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            vault.unseal(sealed[:length], context=b"c")


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(SealBroken):
        Vault([OTHER]).unseal(Vault([KEY]).seal(b"key", context=b""), context=b"")


def test_the_plaintext_is_not_in_the_sealed_value() -> None:
    assert b"canary" not in Vault([KEY]).seal(b"canary" * 10, context=b"canary")


def test_a_rotation_opens_the_old_and_seals_with_the_new() -> None:
    before, after = Vault([KEY]), Vault([OTHER, KEY])
    sealed = before.seal(b"old", context=b"")
    assert after.unseal(sealed, context=b"") == b"old"
    assert Vault([OTHER]).unseal(after.seal(b"new", context=b""), context=b"") == b"new"


def test_fingerprints_are_stable_keyed_and_for_one_purpose() -> None:
    vault = Vault([KEY])
    assert vault.fingerprint(b"x", purpose="a") == Vault([KEY]).fingerprint(b"x", purpose="a")
    assert vault.fingerprint(b"x", purpose="a") != vault.fingerprint(b"x", purpose="b")
    assert vault.fingerprint(b"x", purpose="a") != Vault([OTHER]).fingerprint(b"x", purpose="a")
    assert vault.fingerprint(b"\0x", purpose="a") != vault.fingerprint(b"x", purpose="a\0")
    assert len(vault.fingerprint(b"x", purpose="a")) == 32


def test_fingerprints_survive_a_rotation() -> None:
    assert Vault([OTHER, KEY]).fingerprint(b"x", purpose="a") == Vault([KEY]).fingerprint(b"x", purpose="a")


def test_a_key_file_holds_keys_and_comments(tmp_path: Path) -> None:
    new, old = Vault.new_key(), base64.b64encode(KEY).decode()
    vault = Vault.open(key_file(tmp_path, f"# newest first\n{new}  # of today\n\n{old}\n"))
    assert vault.unseal(Vault([KEY]).seal(b"old", context=b""), context=b"") == b"old"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeyFileRefused, match="chmod 600"):
        Vault.open(key_file(tmp_path, Vault.new_key(), mode))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no key"),
        ("# only a comment", "no key"),
        ("not base64!", "not base64"),
        (base64.b64encode(os.urandom(16)).decode(), "16 bytes"),
        ("schlüssel", "ascii"),
    ],
)
def test_a_key_file_without_keys_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(KeyFileRefused, match=reason):
        Vault.open(key_file(tmp_path, text))


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileRefused, match=r"absent\.key"):
        Vault.open(tmp_path / "absent.key")


def test_a_refused_key_is_not_in_the_refusal(tmp_path: Path) -> None:
    secret = base64.b64encode(os.urandom(31)).decode()
    with pytest.raises(KeyFileRefused) as caught:
        Vault.open(key_file(tmp_path, secret))
    assert secret not in str(caught.value)
