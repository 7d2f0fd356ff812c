"""Keyset pagination: opaque page tokens, and page sizes made sane."""

import base64
import binascii
from collections.abc import Sequence

import orjson

from services.chassis.errors import PageTokenInvalid
from services.chassis.vault import SealBroken, Vault

__all__ = ["PageTokens", "clamp"]


class PageTokens:
    """Tokens that say where the last page ended, readable and forgeable only by us.

    `scope` is the method, the principal and every other argument of the request
    in one string: a token is good only where it was given.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def encode(self, position: Sequence[str | int], *, scope: str) -> str:
        """A URL-safe token for the sort key of the last row of a page."""
        sealed = self._vault.seal(orjson.dumps(list(position)), context=_context(scope))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def decode(self, token: str, *, scope: str) -> list[str | int]:
        """The position; raises PageTokenInvalid."""
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            position: list[str | int] = orjson.loads(self._vault.unseal(sealed, context=_context(scope)))
        except (binascii.Error, SealBroken, ValueError) as error:
            raise PageTokenInvalid from error
        return position


def _context(scope: str) -> bytes:
    return b"page:" + scope.encode()


def clamp(page_size: int, *, default: int, maximum: int) -> int:
    """0 means the default, too many means the maximum (AIP-158); negatives are refused by validation."""
    return min(page_size or default, maximum)
