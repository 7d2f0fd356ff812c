"""PostgreSQL dies under a running stream and comes back: nothing lost, nothing doubled."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.suite.postgres import EmbeddedPostgres
from services.chassis.errors import Unavailable
from streamax.streams.v1 import session_pb2 as session_pb
from tests.support.database import Cluster, Database
from tests.support.deployment import Deployment
from tests.support.nginx import Nginx
from tests.support.polling import until
from tests.support.refusals import refused

KEY = "canary-outage"


class Server:
    """A PostgreSQL of this test's own, to be killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running = EmbeddedPostgres.start(folder, durable=False)

    def kill(self) -> None:
        """SIGKILL; its backends notice and go."""
        postmaster = (self.running.home / "data" / "postmaster.pid").read_text().split()[0]
        os.kill(int(postmaster), signal.SIGKILL)

    def restart(self) -> None:
        self.running = EmbeddedPostgres.start(self._folder, durable=False)


@pytest.fixture
def server() -> Iterator[Server]:
    # Not in tmp_path: whether the server's own user may enter that changes during a test.
    made = Server(Path(tempfile.mkdtemp(prefix="streamax-test-")))
    yield made
    made.running.remove()


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """Instead of the shared one."""
    with Cluster(server.running.dsn()).fresh() as made:
        made.migrate(made.admin_dsn)
        yield made


@pytest.mark.parametrize("deployment", ["process"], indirect=True)
async def test_a_stream_outlives_its_database_and_is_the_same_stream_afterwards(
    deployment: Deployment, ingest: Nginx, server: Server
) -> None:
    user = await deployment.user()
    async with deployment.serving() as control:
        session = await control.start(user, KEY)
        before = await control.reaches(user, session.id, session_pb.SESSION_STATUS_RUNNING)
        server.kill()
        with refused(Unavailable) as refusal:
            await control.get(user, session.id)
        assert refusal.error.metadata["dependency"] == "database"
        at_death = ingest.bytes_in(KEY)
        await until(lambda: ingest.bytes_in(KEY) > at_death + 200_000)
        server.restart()
        back = time.time()
        await control.eventually_answers(user)
        after = await control.measured_after(user, session.id, back)
        assert after.status == session_pb.SESSION_STATUS_RUNNING
        assert (after.container_id, after.generation) == (before.container_id, before.generation)
        assert len(ingest.publications(KEY)) == 1, "the ingest saw a reconnect"
        async with deployment.database.connect() as connection:
            assert await connection.fetch("SELECT * FROM private.slot_drift()") == []
        await control.stop(user, session.id)
        await control.reaches(user, session.id, session_pb.SESSION_STATUS_STOPPED)
    await until(lambda: ingest.publishers(KEY) == 0)
