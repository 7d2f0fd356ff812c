"""Two shapes of database, and every test here on both: plain PostgreSQL, and one as Supabase prepares it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.chassis.migrations import migrate
from tests.support.database import Cluster, Database, complete, embedded_cluster

_SHIM = Path(__file__).with_name("supabase.sql")


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
                shim = f"SET shim.owner = '{self.migrant}';\n{_SHIM.read_text()}"
                made.run(f'{shim}\nALTER DATABASE {made.name} OWNER TO "{self.migrant}"')
            yield made

    @contextmanager
    def migrated(self) -> Iterator[Database]:
        with self.bare() as made:
            complete(migrate(self.migrant_dsn(made)))
            yield made

    def migrant_dsn(self, database: Database) -> str:
        return database.dsn(self.migrant) if self.migrant else database.admin_dsn


@pytest.fixture(scope="session")
def supabase_cluster(cluster: Cluster) -> Iterator[tuple[Cluster, str]]:
    """A cluster of its own, where `postgres` is not the superuser; or the given one."""
    if "STREAMAX_TEST_DATABASE_URL" in os.environ:
        yield cluster, "streamax_shim_postgres"
        return
    with embedded_cluster(superuser="supabase_admin") as server:
        yield Cluster(server.dsn()), "postgres"


@pytest.fixture(scope="session", params=["plain", "supabase"])
def shape(request: pytest.FixtureRequest, cluster: Cluster) -> Shape:
    if request.param == "plain":
        return Shape("plain", cluster, migrant="")
    shared, migrant = request.getfixturevalue("supabase_cluster")
    return Shape("supabase", shared, migrant)


@pytest.fixture(scope="session")
def shaped_template(shape: Shape) -> Iterator[Database]:
    with shape.migrated() as made:
        yield made


@pytest.fixture
def shaped(shape: Shape, shaped_template: Database) -> Iterator[Database]:
    """A migrated database of the shape, for one test."""
    with shape.cluster.fresh(template=shaped_template.name, owner=shape.migrant) as made:
        yield made


@pytest.fixture(scope="session")
def standing(shape: Shape) -> Iterator[Database]:
    """For tests that leave no trace. No clone: those have not the database's own privileges."""
    with shape.migrated() as made:
        yield made
