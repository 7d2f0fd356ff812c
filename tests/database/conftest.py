"""Two shapes of database, and every test here on both: plain PostgreSQL, and one as Supabase prepares it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.database.targets import Target
from tests.support.database import Cluster, Database, embedded_cluster

_SHIM = Path(__file__).with_name("supabase.sql")
_SEED = Path(__file__).with_name("seed.sql")


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of cluster, and how a database in it looks before we come."""

    name: str
    cluster: Cluster
    #: Owns the databases and runs the migrations; empty: the superuser does.
    migrant: str

    @contextmanager
    def bare(self) -> Iterator[Database]:
        """A database before the first migration."""
        with self.cluster.fresh() as made:
            if self.migrant:
                made.run(f"SET shim.owner = '{self.migrant}';\n{_SHIM.read_text()}")
                made.run(f'ALTER DATABASE {made.name} OWNER TO "{self.migrant}"')
                if made.password:
                    made.run(f"ALTER ROLE \"{self.migrant}\" PASSWORD '{made.password}'")
            yield made

    @contextmanager
    def migrated(self) -> Iterator[Database]:
        with self.bare() as made:
            made.migrate(self.migrant_dsn(made))
            yield made

    def migrant_dsn(self, database: Database) -> str:
        return database.dsn(self.migrant) if self.migrant else database.admin_dsn


@pytest.fixture(scope="session")
def supabase_cluster(cluster: Cluster) -> Iterator[tuple[Cluster, str]]:
    """A cluster of its own, where `postgres` is not the superuser; or the given one."""
    if "STREAMAX_TEST_DATABASE_URL" in os.environ:
        yield cluster, "shim_postgres"
        return
    with embedded_cluster(superuser="supabase_admin") as server:
        yield Cluster(server.dsn()), "postgres"


@pytest.fixture(scope="session")
def plain_shape(cluster: Cluster) -> Shape:
    return Shape("plain", cluster, migrant="")


@pytest.fixture(scope="session")
def supabase_shape(supabase_cluster: tuple[Cluster, str]) -> Shape:
    return Shape("supabase", *supabase_cluster)


@pytest.fixture(scope="session")
def plain_template(plain_shape: Shape) -> Iterator[Database]:
    with plain_shape.migrated() as made:
        yield made


@pytest.fixture(scope="session")
def supabase_template(supabase_shape: Shape) -> Iterator[Database]:
    with supabase_shape.migrated() as made:
        yield made


@pytest.fixture(scope="session", params=["plain", "supabase"])
def shape(request: pytest.FixtureRequest) -> Shape:
    found: Shape = request.getfixturevalue(f"{request.param}_shape")
    return found


@pytest.fixture
def shaped(shape: Shape, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database of the shape, for one test."""
    template: Database = request.getfixturevalue(f"{shape.name}_template")
    with shape.cluster.fresh(template=template.name, owner=shape.migrant) as made:
        yield made


@pytest.fixture
def on_supabase(supabase_shape: Shape, supabase_template: Database) -> Iterator[Database]:
    """A migrated database for a test that makes sense on Supabase only."""
    with supabase_shape.cluster.fresh(template=supabase_template.name, owner=supabase_shape.migrant) as made:
        yield made


@pytest.fixture(scope="session")
def standing(shape: Shape) -> Iterator[Database]:
    """For tests that leave no trace. No clone: those have not the database's own privileges."""
    with shape.migrated() as made:
        yield made


@pytest.fixture(scope="session")
def seed_template(supabase_cluster: tuple[Cluster, str]) -> Iterator[Database]:
    """The seed as it would stand on Supabase."""
    shape = Shape("seed", *supabase_cluster)
    with shape.bare() as made:
        made.run(f'SET SESSION AUTHORIZATION "{shape.migrant}";\n{_SEED.read_text()}')
        yield made


@pytest.fixture(params=["seed", "plain", "supabase"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    """What to attack."""
    cluster, migrant = request.getfixturevalue("supabase_cluster")
    if request.param == "seed":
        template = request.getfixturevalue("seed_template")
        with cluster.fresh(template=template.name, owner=migrant) as made:
            yield Target("seed", made, falls=True)
        return
    template = request.getfixturevalue(f"{request.param}_template")
    shape = request.getfixturevalue(f"{request.param}_shape")
    with shape.cluster.fresh(template=template.name, owner=shape.migrant) as made:
        yield Target(request.param, made, falls=False)
