"""Where the keys come from that verify tokens: a file, a URL, a shared secret.

A service that asks another one for them brings its own KeySource.
"""

import asyncio
import base64
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

__all__ = ["FileKeys", "HttpKeys", "KeySource", "KeysUnavailable", "SecretKey"]

_TIMEOUT = 5.0
_LARGEST = 256 * 1024


class KeysUnavailable(Exception):
    """The keys cannot be had now."""


class KeySource(Protocol):
    """Fetches JSON Web Keys (RFC 7517)."""

    async def fetch(self) -> Sequence[Mapping[str, Any]]:
        """All keys that are good now; raises KeysUnavailable."""
        ...


class FileKeys:
    """A JSON Web Key Set in a file, read again at each fetch."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def fetch(self) -> Sequence[Mapping[str, Any]]:
        try:
            return _keys(self._path.read_bytes())
        except OSError as error:
            raise KeysUnavailable(f"{self._path}: {error}") from error


class HttpKeys:
    """A JSON Web Key Set behind an http(s) URL, as Supabase Auth serves it."""

    def __init__(self, url: str) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("jwks_url must be http(s)")
        self._url = url

    async def fetch(self) -> Sequence[Mapping[str, Any]]:
        # Once in ten minutes: the standard library in a thread is all the HTTP client this needs.
        return _keys(await asyncio.to_thread(self._read))

    def _read(self) -> bytes:
        try:
            with urllib.request.urlopen(self._url, timeout=_TIMEOUT) as response:  # noqa: S310 (checked above)
                body: bytes = response.read(_LARGEST + 1)
        except (OSError, urllib.error.URLError) as error:
            raise KeysUnavailable(f"{self._url}: {error}") from error
        if len(body) > _LARGEST:
            raise KeysUnavailable(f"{self._url}: more than {_LARGEST} bytes")
        return body


class SecretKey:
    """The one HS256 secret of a project that still signs with it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def fetch(self) -> Sequence[Mapping[str, Any]]:
        try:
            secret = self._path.read_bytes().strip()
        except OSError as error:
            raise KeysUnavailable(f"{self._path}: {error}") from error
        # RFC 7518 section 3.2: an HS256 key is at least as long as the hash.
        if len(secret) < 32:
            raise KeysUnavailable(f"{self._path}: the secret has fewer than 32 bytes")
        return [{"kty": "oct", "alg": "HS256", "k": base64.urlsafe_b64encode(secret).rstrip(b"=").decode()}]


def _keys(document: bytes) -> Sequence[Mapping[str, Any]]:
    try:
        keys = orjson.loads(document)["keys"]
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise KeysUnavailable("not a JSON Web Key Set") from error
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise KeysUnavailable("not a JSON Web Key Set")
    return keys
