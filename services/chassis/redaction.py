"""What no log may hold: tokens, stream keys, passwords.

Two nets. `Secret` wraps a value so that printing it prints stars: what we know
to be secret never becomes text. `scrub` removes what looks secret from text we
did not write, such as a library's exception: bearer tokens and JWTs, the key at
the end of an rtmp(s) address, keys in YouTube's four-letter groups, passwords
in URLs, and `password=…`-like pairs.
"""

import re
from dataclasses import dataclass

__all__ = ["Secret", "scrub"]


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A secret text; `reveal` is called where it is used and nowhere else."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)


_STARS = r"\1***"
_SHAPES = [
    # A JWT, wherever it stands.
    (re.compile(r"()\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*"), _STARS),
    (re.compile(r"(\b[Bb]earer\s+)[^\s\"',;]+"), _STARS),
    # rtmp://host/app/key?query: everything after the app.
    (re.compile(r"(\brtmps?://[^/\s\"']+/[^/\s\"'?]+/)[^\s\"',;)\]}\\]+"), _STARS),
    (re.compile(r"(\brtmps?://[^\s\"'?]*\?)[^\s\"',;)\]}\\]+"), _STARS),
    # A UUID's four-letter groups stand between longer ones, and so do not match.
    (re.compile(r"()(?<![\w-])[a-z0-9]{4}(?:-[a-z0-9]{4}){3,4}(?![\w-])"), _STARS),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/\s:@\"']*:)[^/\s@\"']+(?=@)"), _STARS),
    (
        re.compile(
            r"((?:password|passwd|secret|stream_?key|api_?key|refresh_token|access_token|token)"
            r"[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&)}\]]+",
            re.IGNORECASE,
        ),
        _STARS,
    ),
]


def scrub(text: str) -> str:
    """The text with everything that looks secret replaced by stars."""
    for shape, replacement in _SHAPES:
        text = shape.sub(replacement, text)
    return text
