"""The keys that sign access tokens: made at first start, sealed at rest, published without rest.

A key is `standby` (published, not yet signing, so that verifiers learn of it first), then
`current` (signs), then `previous` (signs no more, verifies what it signed), then `revoked`.
Every process reads them again at an interval, so a rotation needs no restart.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from services.chassis.database import Database
from services.chassis.errors import Unavailable
from services.chassis.vault import Vault
from services.users import store
from services.users.model import JsonWebKey, KeyStatus, StoredKey


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """The key that signs now."""

    kid: str
    private: ec.EllipticCurvePrivateKey = field(repr=False)


class KeyRing:
    """The signing keys as this process last read them; also the key source of its own verifier."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db = db
        self._vault = vault
        self._stored: Sequence[StoredKey] = ()
        self._current: SigningKey | None = None

    @property
    def current(self) -> SigningKey:
        """Raises Unavailable when no key is current."""
        if self._current is None:
            raise Unavailable.of("signing key")
        return self._current

    @property
    def published(self) -> Sequence[JsonWebKey]:
        """The keys a verifier needs, the signing one among them."""
        return [key.public for key in self._stored]

    async def open(self) -> None:
        """Read the keys, and make the first where there is none.

        Workers that start together may each make one; the database keeps the first, and all
        of them read it back.
        """
        await self.refresh()
        if self._current is None:
            await store.add_first_signing_key(self._db, generate_key(self._vault))
            await self.refresh()

    async def refresh(self) -> Mapping[str, int]:
        """Read the keys again; returns how many changed."""
        stored = await store.list_signing_keys(self._db)
        changed = len(set(stored) ^ set(self._stored))
        if changed:
            current = next((key for key in stored if key.status is KeyStatus.CURRENT), None)
            self._current = self._unseal(current) if current else None
            self._stored = stored
        return {"changed": changed}

    async def fetch(self) -> Sequence[Mapping[str, str]]:
        """The published keys as JWKs."""
        return [asdict(key) for key in self.published]

    def _unseal(self, key: StoredKey) -> SigningKey:
        encoded = self._vault.unseal(key.sealed_private, context=_context(key.public.kid))
        private = load_der_private_key(encoded, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise TypeError(f"signing key {key.public.kid} is not an elliptic-curve key")
        return SigningKey(kid=key.public.kid, private=private)


def generate_key(vault: Vault) -> StoredKey:
    """A new P-256 key to become the current one, its private part sealed."""
    private = ec.generate_private_key(ec.SECP256R1())
    public = _jwk(private.public_key().public_numbers())
    encoded = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return StoredKey(
        status=KeyStatus.CURRENT,
        public=public,
        sealed_private=vault.seal(encoded, context=_context(public.kid)),
    )


def _jwk(numbers: ec.EllipticCurvePublicNumbers) -> JsonWebKey:
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    # The key's own RFC 7638 thumbprint: the members that RFC names, sorted, without spaces.
    canonical = json.dumps({"crv": "P-256", "kty": "EC", "x": x, "y": y}, separators=(",", ":"))
    kid = _base64url(sha256(canonical.encode()).digest())
    return JsonWebKey(kid=kid, kty="EC", alg="ES256", use="sig", crv="P-256", x=x, y=y)


def _base64url(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _context(kid: str) -> bytes:
    return b"users/signing-key/" + kid.encode()
