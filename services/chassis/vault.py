"""Secrets at rest: sealed with keys that live in a file and never in the database.

A sealed value is `version (1) | key id (4) | nonce (12) | ciphertext and tag`.
The header and the caller's context are authenticated, so a value moved to
another row, or sealed for another purpose, does not open.
"""

import base64
import binascii
import hashlib
import hmac
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["KeyFileRefused", "SealBroken", "Vault"]

_VERSION = 1
_HEADER = 5
_NONCE = 12


class KeyFileRefused(Exception):
    """The key file is missing, open to others or not a list of base64 keys of 32 bytes."""


class SealBroken(Exception):
    """The value was not sealed by a key of ours for this context, or was tampered with."""


class Vault:
    """Seals with the first key, unseals with any: a rotation puts a new key on top.

    The last key also makes the fingerprints, which are stored and compared:
    it stays the last until every fingerprint has been made anew.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` of 32 bytes each, newest first."""
        if not keys:
            raise KeyFileRefused("no key given")
        self._ciphers = {_key_id(key): AESGCM(_derive(key, b"seal")) for key in keys}
        self._first = _key_id(keys[0])
        self._fingerprint_key = _derive(keys[-1], b"fingerprint")

    @classmethod
    def open(cls, key_file: Path) -> Self:
        """One base64 key a line, newest first; `#` begins a comment.

        Raises KeyFileRefused, also when group or others may read the file.
        """
        try:
            mode = stat.S_IMODE(key_file.stat().st_mode)
            lines = key_file.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileRefused(f"{key_file}: {error}") from error
        if mode & 0o077:
            raise KeyFileRefused(f"{key_file}: mode {mode:04o} lets others read it; chmod 600")
        texts = [line.partition("#")[0].strip() for line in lines]
        return cls([_decode_key(text, key_file) for text in texts if text])

    @staticmethod
    def new_key() -> str:
        """A line for a key file."""
        return base64.b64encode(os.urandom(32)).decode()

    def seal(self, plaintext: bytes, *, context: bytes) -> bytes:
        """The plaintext, encrypted and bound to the context (as `b"session_secrets:<id>"`)."""
        header = bytes([_VERSION]) + self._first
        nonce = os.urandom(_NONCE)
        return header + nonce + self._ciphers[self._first].encrypt(nonce, plaintext, header + context)

    def unseal(self, sealed: bytes, *, context: bytes) -> bytes:
        """The plaintext; raises SealBroken."""
        header, nonce, body = sealed[:_HEADER], sealed[_HEADER : _HEADER + _NONCE], sealed[_HEADER + _NONCE :]
        cipher = self._ciphers.get(header[1:]) if header[:1] == bytes([_VERSION]) else None
        if cipher is None or len(nonce) < _NONCE:
            raise SealBroken("sealed by no key of ours")
        try:
            return cipher.decrypt(nonce, body, header + context)
        except InvalidTag as error:
            raise SealBroken("tampered with, or sealed for another context") from error

    def fingerprint(self, data: bytes, *, purpose: str) -> bytes:
        """32 bytes, equal for equal data and purpose; without the key nothing can be guessed from them."""
        # A key per purpose, not a prefix: no pair of purpose and data can pass for another.
        return hmac.digest(_derive(self._fingerprint_key, purpose.encode()), data, "sha256")


def _derive(key: bytes, use: bytes) -> bytes:
    # One key in the file, separate keys for separate uses. The input is already
    # uniform, so HKDF's extract step would add nothing to this expand step.
    return hmac.digest(key, b"streamax." + use, "sha256")


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"streamax.key-id" + key).digest()[:4]


def _decode_key(text: str, key_file: Path) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise KeyFileRefused(f"{key_file}: a line is not base64") from error
    if len(key) != 32:
        raise KeyFileRefused(f"{key_file}: a key has {len(key)} bytes, not 32")
    return key
