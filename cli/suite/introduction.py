"""What people are told of a suite that is up: its parts, and how to call it meanwhile."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Call", "Part", "parts", "shell"]


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    #: Stands in for what a deployment has; otherwise it is the real thing.
    embedded: bool
    what: str


@dataclass(frozen=True, slots=True)
class Call:
    """One method, and a request worth sending."""

    address: str
    method: str
    request: str = "{}"
    #: The shell variable that holds the token; empty: the method is public.
    token: str = ""


def parts(listed: Sequence[Part]) -> Iterator[str]:
    """One line each."""
    for part in listed:
        yield f"  {part.name:8}  {'embedded' if part.embedded else 'real':8}  {part.what}"


def shell(tokens: Mapping[str, str], calls: Sequence[Call]) -> Iterator[str]:
    """To be pasted: the tokens, a `buf curl` line per call, and the same for grpcurl."""
    for name, token in tokens.items():
        yield f"{name}={token}"
    buf = f"{_buf()} curl --protocol grpc --http2-prior-knowledge"
    for call in calls:
        yield f"{buf}{_options(call)} http://{call.address}/{call.method}"
    for call in calls:
        yield f"grpcurl -plaintext{_options(call)} {call.address} {call.method}"


def _options(call: Call) -> str:
    header = f' -H "authorization: Bearer ${call.token}"' if call.token else ""
    return f"{header} -d {shlex.quote(call.request)}"


def _buf() -> str:
    """As it can be typed from here."""
    path = Path(sys.executable).with_name("buf")
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
