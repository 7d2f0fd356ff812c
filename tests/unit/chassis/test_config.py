"""A configuration is taken whole or refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from services.chassis.config import ConfigRefused, Environment, environment, load

NOTHING = environment({})


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    url: str
    password_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    size: int = 1
    pause: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError("size must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    database: Database
    inner: Inner = field(default_factory=Inner)
    colour: Colour = Colour.RED
    ratio: float = 0.5
    names: tuple[str, ...] = ()
    inners: tuple[Inner, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    loud: bool = False
    optional: Inner | None = None


def written(folder: Path, text: str) -> Path:
    path = folder / "service.toml"
    path.write_text('database.url = "postgresql://x"\n' + text)
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigRefused) as caught:
        load(Config, written(folder, text), env=NOTHING)
    return str(caught.value)


def test_every_kind_of_value(tmp_path: Path) -> None:
    config = load(
        Config,
        written(
            tmp_path,
            """
            database.password_file = "secrets/db"
            colour = "blue"
            ratio = 1
            names = ["a", "b"]
            weights = {a = 1}
            loud = true
            inner = {size = 3, pause = "250ms"}
            inners = [{size = 4}, {}]
            optional = {pause = "2m"}
            """,
        ),
        env=NOTHING,
    )
    assert config == Config(
        database=Database(url="postgresql://x", password_file=tmp_path / "secrets/db"),
        inner=Inner(size=3, pause=timedelta(milliseconds=250)),
        colour=Colour.BLUE,
        ratio=1.0,
        names=("a", "b"),
        inners=(Inner(size=4), Inner()),
        weights={"a": 1},
        loud=True,
        optional=Inner(pause=timedelta(minutes=2)),
    )
    assert type(config.ratio) is float


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colr = 'red'", "'colr'"),
        ("inner.sise = 2", "'inner.sise'"),
        ("inners = [{}, {sise = 2}]", "'inners[1].sise'"),
        ("inner.size = '2'", "'inner.size' must be of type int"),
        ("inner.size = true", "'inner.size' must be of type int, not bool"),
        ("loud = 1", "'loud' must be of type bool"),
        ("inner = 3", "'inner' must be a table"),
        ("names = 'a'", "'names' must be a list"),
        ("names = [1]", "'names[0]' must be of type str"),
        ("weights = 3", "'weights' must be a table"),
        ("weights = {a = 'x'}", "'weights.a' must be of type int"),
        ("colour = 'green'", "'colour' must be one of red, blue"),
        ("inner.pause = 5", "'inner.pause' must be a duration"),
        ("inner.pause = '5 parsecs'", "'inner.pause' must be a duration"),
        ("database.password_file = 5", "'database.password_file' must be a path"),
        ("inner.size = 0", "inner: size must be at least 1"),
        ("loud = maybe", "service.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    assert named in refused(tmp_path, text)


def test_a_missing_key_is_named_with_its_table() -> None:
    with pytest.raises(ConfigRefused, match=r"missing key 'database\.url'"):
        load(Config, env=NOTHING)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigRefused, match=r"nowhere\.toml"):
        load(Config, tmp_path / "nowhere.toml", env=NOTHING)


def test_overrides_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "inner.size = 2")
    env = environment({"STREAMAX_DATABASE_URL": "postgresql://env"})
    assert load(Config, path, env=env).database.url == "postgresql://env"
    overridden = load(Config, path, {"database.url": "postgresql://over", "inner.size": 9}, env=env)
    assert overridden.database.url == "postgresql://over"
    assert overridden.inner.size == 9


def test_the_environment_can_name_the_file(tmp_path: Path) -> None:
    env = environment({"STREAMAX_CONFIG": str(written(tmp_path, "inner.size = 2"))})
    assert load(Config, env=env).inner.size == 2


def test_a_database_url_in_the_environment_is_ignored_by_who_has_no_database() -> None:
    assert load(Inner, env=environment({"STREAMAX_DATABASE_URL": "postgresql://x"})) == Inner()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4317"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_exported_where_a_collector_is_named(variables: dict[str, str], expected: bool) -> None:
    assert environment(variables).exports_traces is expected


def test_an_empty_variable_is_none_at_all() -> None:
    assert environment({"STREAMAX_DATABASE_URL": "", "STREAMAX_CONFIG": ""}) == Environment(
        database_url=None, config=None, exports_traces=False
    )


def test_values_given_in_code_need_no_spelling(tmp_path: Path) -> None:
    given: dict[str, Any] = {"inner": Inner(size=5), "inner.pause": timedelta(seconds=3)}
    assert load(Config, written(tmp_path, ""), {"inner": given["inner"]}, env=NOTHING).inner.size == 5
    assert load(
        Config, written(tmp_path, ""), {"inner.pause": given["inner.pause"]}, env=NOTHING
    ).inner == Inner(pause=timedelta(seconds=3))
