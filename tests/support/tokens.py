"""An issuer of access tokens with a key of its own, for services tested without the users service."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec


class Issuer:
    """Signs tokens in the shape our users service and Supabase give them."""

    def __init__(self, *, kid: str = "test-key") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._kid = kid

    async def fetch(self) -> Sequence[Mapping[str, Any]]:
        """The public keys: an Issuer is a KeySource."""
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return [{**public, "kid": self._kid, "alg": "ES256", "use": "sig"}]

    def token(
        self,
        subject: UUID,
        *,
        role: str = "authenticated",
        lifetime: timedelta = timedelta(hours=1),
        **claims: Any,
    ) -> str:
        """A token for this user; `claims` replace or add."""
        now = datetime.now(UTC)
        body = {
            "sub": str(subject),
            "role": role,
            "aud": "authenticated",
            "iat": int(now.timestamp()),
            "exp": (now + lifetime).timestamp(),
            "session_id": str(uuid4()),
        }
        return jwt.encode(body | claims, self._key, algorithm="ES256", headers={"kid": self._kid})


def bearer(token: str) -> tuple[tuple[str, str]]:
    """Call metadata that carries the token."""
    return (("authorization", f"Bearer {token}"),)
