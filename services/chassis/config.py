"""A service's configuration: one TOML file into one frozen dataclass, refused when anything is odd.

The only room that reads the environment. Two variables override the file,
because a test database and a container's mount are known only at start:
STREAMAX_DATABASE_URL (`database.url`) and STREAMAX_CONFIG (the file itself).
The OpenTelemetry SDK reads its own standard OTEL_* variables.
Secrets are never values here: a field that needs one ends in `_file`.
"""

import dataclasses
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, cast

__all__ = ["ConfigRefused", "Environment", "environment", "load"]

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class ConfigRefused(Exception):
    """The configuration is wrong; the message names the key and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the process environment says, read once."""

    #: Overrides `database.url`.
    database_url: str | None
    #: The configuration file, when the command line names none.
    config: Path | None
    #: Whether an OpenTelemetry collector was named for traces (OTEL_EXPORTER_OTLP[_TRACES]_ENDPOINT)
    #: and neither OTEL_SDK_DISABLED nor OTEL_TRACES_EXPORTER=none says otherwise. The specification's
    #: default endpoint is localhost: without a collector there, every export would fail and be logged.
    exports_traces: bool


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """The environment of this process, or of a test."""
    given = os.environ if variables is None else variables
    path = given.get("STREAMAX_CONFIG")
    endpoint = given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    disabled = given.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return Environment(
        database_url=given.get("STREAMAX_DATABASE_URL") or None,
        config=Path(path) if path else None,
        exports_traces=bool(endpoint)
        and not disabled
        and "otlp" in given.get("OTEL_TRACES_EXPORTER", "otlp").split(","),
    )


def load(
    cls: type[T],
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    env: Environment | None = None,
) -> T:
    """The dataclass `cls` from a TOML file; `overrides` by dotted key (`{"server.port": 0}`) win.

    Durations are written "250ms", "5s", "2m", "1h", "7d"; relative paths are
    relative to the file. Raises ConfigRefused.
    """
    env = env or environment()
    path = path or env.config
    table: dict[str, Any] = _read(path) if path else {}
    if env.database_url and "database" in {each.name for each in dataclasses.fields(cast(Any, cls))}:
        _put(table, "database.url", env.database_url)
    for key, value in (overrides or {}).items():
        _put(table, key, value)
    return cast(T, _build(cls, table, key="", base=path.parent if path else Path()))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigRefused(f"{path}: {error}") from error


def _put(table: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value


def _build(cls: type[Any], table: Mapping[str, Any], *, key: str, base: Path) -> Any:
    hints = typing.get_type_hints(cls)
    fields = {each.name: each for each in dataclasses.fields(cls)}
    for name in table:
        if name not in fields:
            raise ConfigRefused(f"unknown key {_join(key, name)!r}; known here: {', '.join(sorted(fields))}")
    values = {
        name: _convert(hints[name], value, key=_join(key, name), base=base) for name, value in table.items()
    }
    for name, each in fields.items():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and name not in values:
            if not dataclasses.is_dataclass(hints[name]):
                raise ConfigRefused(f"missing key {_join(key, name)!r}")
            # A table of defaults need not be written; one with a required key names that key.
            values[name] = _convert(hints[name], {}, key=_join(key, name), base=base)
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigRefused(f"{key or cls.__name__}: {error}") from error


def _convert(hint: Any, value: Any, *, key: str, base: Path) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _convert_optional(arguments, value, key=key, base=base)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise ConfigRefused(f"{key!r} must be a table")
        return _build(hint, value, key=key, base=base)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigRefused(f"{key!r} must be a list")
        return tuple(
            _convert(arguments[0], each, key=f"{key}[{n}]", base=base) for n, each in enumerate(value)
        )
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigRefused(f"{key!r} must be a table")
        return {
            name: _convert(arguments[1], each, key=_join(key, name), base=base)
            for name, each in value.items()
        }
    return _convert_scalar(hint, value, key=key, base=base)


def _convert_optional(arguments: tuple[Any, ...], value: Any, *, key: str, base: Path) -> Any:
    if value is None:
        return None
    (inner,) = (each for each in arguments if each is not types.NoneType)
    return _convert(inner, value, key=key, base=base)


def _convert_scalar(hint: Any, value: Any, *, key: str, base: Path) -> Any:
    if hint is timedelta:
        return value if isinstance(value, timedelta) else _duration(value, key=key)
    if hint is Path:
        if not isinstance(value, str | Path):
            raise ConfigRefused(f"{key!r} must be a path")
        return base / value
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError as error:
            raise ConfigRefused(
                f"{key!r} must be one of {', '.join(str(each.value) for each in hint)}"
            ) from error
    if hint is float and type(value) is int:
        return float(value)
    # bool is a subclass of int: `workers = true` must not mean 1.
    if type(value) is not hint:
        raise ConfigRefused(f"{key!r} must be of type {hint.__name__}, not {type(value).__name__}")
    return value


def _duration(value: Any, *, key: str) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigRefused(f'{key!r} must be a duration like "250ms", "5s", "2m", "1h" or "7d"')
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name
