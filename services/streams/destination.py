"""Where a stream goes: the ingest address and the stream key, checked.

What is accepted is a structure, not the absence of known tricks: an allow-listed
scheme, host and port, and path segments of a few safe characters. No refusal
repeats any text of the caller, because the key is pasted into the wrong field
sooner or later, and refusals are logged.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Self

from services.chassis.errors import InvalidField

__all__ = ["Allowlist", "Destination"]

#: The schemes and their default ports, which are ffmpeg's own.
PORTS: Final = {"rtmp": 1935, "rtmps": 443}

#: Hosts of one provider share their keys: a key at any of them is one broadcast,
#: whatever the host (a., b., rtmps), scheme, port or app.
PROVIDERS: Final = ("youtube.com",)

URL_MAX: Final = 2048

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<path>[^?#]*)(?P<rest>.*)"
)
_AUTHORITY: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*")
#: What inet_aton would read as an address: 127.1, 2130706433, 0x7f000001, 0177.0.0.1.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
#: No first '-' (an option to whatever meets it as an argument) or '.'; none of
#: the characters with a meaning to ffmpeg's tee (| [ ]) or to a URL (% ? # : @ \).
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
#: Every YouTube key fits (letters, digits and dashes); 512 is the API's limit.
_KEY: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,511}")
_KEY_RULE: Final = "letters, digits, '-' and '_', not beginning with '-', at most 512 of them"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One allow-listed place: `rtmp://a.example:1935`, `rtmps://*.example` or a literal address."""

    scheme: str
    #: Canonical host, or `.suffix` for any host below it.
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError, for the operator, naming the pattern."""
        match = _URL.fullmatch(text)
        if match is None or match["path"] or match["rest"] or match["scheme"] not in PORTS:
            raise ValueError(f"{text!r} is not of the form rtmp://host:port or rtmps://*.suffix:port")
        authority = match["authority"]
        wild = authority.startswith("*.")
        place = _place(match["scheme"], authority.removeprefix("*."))
        if place is None or (wild and not _is_name(place[0])):
            raise ValueError(f"{text!r} names no host in its canonical spelling, or no port from 1 to 65535")
        host, port = place
        return cls(match["scheme"], f".{host}" if wild else host, port)

    def admits(self, scheme: str, host: str, port: int) -> bool:
        """A suffix admits names below it, never itself and never an address."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        if self.host.startswith("."):
            return _is_name(host) and host.endswith(self.host)
        return host == self.host

    def __str__(self) -> str:
        host = f"*{self.host}" if self.host.startswith(".") else self.host
        return f"{self.scheme}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Allowlist:
    """The places streams may go to."""

    patterns: tuple[Pattern, ...]

    @classmethod
    def parse(cls, patterns: Sequence[str]) -> Self:
        """Raises ValueError naming the first pattern that is none."""
        return cls(tuple(Pattern.parse(text) for text in patterns))

    def admits(self, scheme: str, host: str, port: int) -> bool:
        return any(pattern.admits(scheme, host, port) for pattern in self.patterns)

    def __str__(self) -> str:
        return ", ".join(map(str, self.patterns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One ingest and the key to it, in canonical spelling."""

    #: "rtmp" or "rtmps".
    scheme: str
    #: Lower-case name, dotted quad, or bracketed IPv6.
    host: str
    port: int
    #: Application path without slashes at either end.
    app: str
    key: str = field(repr=False)

    @classmethod
    def parse(cls, rtmp_url: str, stream_key: str, *, allowed: Allowlist) -> Self:
        """The destination those two texts mean.

        Without a `stream_key` the last path segment is the key. With one the path
        is the app; a key given in both places is taken once, so that it cannot
        stay in `public_url`. Raises InvalidField on `rtmp_url` or `stream_key`.
        """
        scheme, host, port, path = _address(rtmp_url)
        if not allowed.admits(scheme, host, port):
            raise InvalidField.of("rtmp_url", f"is not an allowed destination; allowed are: {allowed}")
        app, key = _app_and_key(path, stream_key)
        return cls(scheme=scheme, host=host, port=port, app="/".join(app), key=key)

    @property
    def public_url(self) -> str:
        """The address without the key; what may be stored and shown."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}/{self.app}"

    def identity(self) -> bytes:
        """Equal for any two destinations at which two encoders would meet on one key.

        Holds the key: to be fingerprinted, never stored. rtmp and rtmps on their
        usual ports are one ingest; so are all hosts of a known provider.
        """
        for provider in PROVIDERS:
            if self.host == provider or self.host.endswith(f".{provider}"):
                return f"{provider}/{self.key}".encode()
        port = "" if self.port in PORTS.values() else f":{self.port}"
        return f"{self.host}{port}/{self.app}/{self.key}".encode()


def _address(url: str) -> tuple[str, str, int, list[str]]:
    """Scheme, host, port and path segments. Raises InvalidField on `rtmp_url`."""

    def refuse(description: str) -> InvalidField:
        return InvalidField.of("rtmp_url", description)

    if len(url) > URL_MAX:
        raise refuse(f"is longer than {URL_MAX} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise refuse("may hold only ASCII characters and no spaces; copy it again")
    match = _URL.fullmatch(url)
    if match is None:
        raise refuse("is not an address; give rtmp://host/app or rtmps://host/app")
    scheme = match["scheme"].lower()
    if scheme not in PORTS:
        raise refuse("must begin with rtmp:// or rtmps://")
    if "@" in match["authority"]:
        raise refuse("must not carry a user name or password; remove everything up to '@'")
    if match["rest"]:
        raise refuse("must not carry a query or fragment; remove everything from '?' or '#' on")
    place = _place(scheme, match["authority"])
    if place is None:
        raise refuse(
            "needs a host name, or an IP address in its usual spelling, and a port from 1 to 65535 if any"
        )
    path = match["path"].removeprefix("/").removesuffix("/")
    segments = path.split("/") if path else []
    if ".." in path or not all(map(_SEGMENT.fullmatch, segments)):
        raise refuse(
            "has a path of other than letters, digits, '.', '-' and '_', an empty part, '..', "
            "or a part that begins with '.' or '-'"
        )
    return scheme, *place, segments


def _app_and_key(path: list[str], stream_key: str) -> tuple[list[str], str]:
    """Raises InvalidField on whichever of the two texts should hold the key."""
    if not path:
        raise InvalidField.of("rtmp_url", "lacks the application after the host; give rtmp://host/app")
    if stream_key:
        if not _KEY.fullmatch(stream_key):
            raise InvalidField.of("stream_key", f"may hold only {_KEY_RULE}; copy it again without spaces")
        while len(path) > 1 and path[-1] == stream_key:
            path = path[:-1]
        return path, stream_key
    *app, key = path
    if not app:
        raise InvalidField.of("stream_key", "is empty, nor is there a key in rtmp_url after the application")
    if not _KEY.fullmatch(key):
        raise InvalidField.of(
            "rtmp_url", f"must end in the stream key, as stream_key is empty; it may hold only {_KEY_RULE}"
        )
    return app, key


def _place(scheme: str, authority: str) -> tuple[str, int] | None:
    """Canonical host and port, or None where either is malformed."""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    host = _host(match["host"].lower())
    port = int(match["port"] or PORTS[scheme])
    return (host, port) if host is not None and port <= 65535 else None


def _host(text: str) -> str | None:
    """One spelling per host: an IP address in any but the usual one is refused.

    An IPv4-mapped IPv6 address is an IPv4 one in disguise.
    """
    try:
        if text.startswith("["):
            address = IPv6Address(text[1:-1])
            return None if address.ipv4_mapped else f"[{address.compressed}]"
        if _NUMERIC.fullmatch(text):
            return str(IPv4Address(text))
    except AddressValueError:
        return None
    return text if _NAME.fullmatch(text) else None


def _is_name(host: str) -> bool:
    return not host.startswith("[") and not _NUMERIC.fullmatch(host)
