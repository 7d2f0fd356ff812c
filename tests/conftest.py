"""Fixtures every test may ask for; each lives beside what it makes, in tests/support."""

pytest_plugins = ["tests.support.database", "tests.support.streams", "tests.support.engine"]
