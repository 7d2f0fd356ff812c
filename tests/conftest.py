"""Fixtures every test may ask for; each lives beside what it makes, in tests/support."""

import pytest

import services  # noqa: F401  (settles what gRPC does at a fork, before gRPC is imported)

pytest_plugins = ["tests.support.database", "tests.support.streams", "tests.support.engine"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a PostgreSQL is marked so, to be run again on another version."""
    for item in items:
        if "cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("database")
