"""An installation of the seed becomes one of ours: what it held is kept, what it allowed is not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.chassis.migrations import MigrationFailed, migrate
from tests.database.access import expected, findings, settle
from tests.database.conftest import Shape
from tests.database.targets import attempt
from tests.support.database import Connection, Database

_BURDENED = Path(__file__).with_name("burdened_seed.sql")


@pytest.fixture
def upgraded(supabase_shape: Shape, seed_template: Database) -> Iterator[Database]:
    """The seed with the worst it lets in, migrated."""
    with supabase_shape.cluster.fresh(template=seed_template.name, owner=supabase_shape.migrant) as made:
        made.run(_BURDENED.read_text())
        made.migrate(supabase_shape.migrant_dsn(made))
        yield made


async def test_what_the_seed_held_is_kept_within_the_rules(upgraded: Database) -> None:
    async with upgraded.connect() as admin:
        assert await _rows(
            admin,
            "SELECT email, role, package_type, package_expires_at IS NULL, streams_allowed, streams_active"
            " FROM public.users ORDER BY created_at",
        ) == [
            ("boss@example.com", "admin", "pro", True, 10, 0),
            ("a@example.com", "user", "creator", False, 3, 0),
            (None, "user", None, True, 0, 0),
        ]
        assert await _rows(
            admin, "SELECT source, streams_allowed, expires_at IS NULL FROM private.package_grants ORDER BY 2"
        ) == [("import", 3, False), ("import", 10, True)]
        assert await _rows(
            admin,
            "SELECT rtmp_url, video_source, status, cause, started_at <= stopped_at"
            " FROM public.stream_sessions ORDER BY video_source",
        ) == [
            ("rtmp://a.rtmp.youtube.com/live2", "/videos/a.mp4", "error", "host_lost", True),
            ("rtmps://b.example:443/app", "https://cdn.example/b.mp4", "stopped", None, True),
            ("rtmp://unknown.invalid/live", "unknown", "error", None, None),
        ]
        assert await _rows(admin, "SELECT rtmp_url, title, status FROM public.stream_requests") == [
            ("rtmp://a.rtmp.youtube.com/live2", "Untitled", "stopped")
        ]
        assert await _rows(admin, "SELECT action, host(ip) FROM public.user_activities ORDER BY action") == [
            ("login", "10.0.0.1"),
            ("logout", None),
        ]
        assert await _rows(admin, 'SELECT message, line, "column", severity FROM public.error_logs') == [
            ("oh", None, 7, "medium")
        ]
        assert await _rows(
            admin, 'SELECT value, unit, "timestamp" <= now() FROM public.performance_metrics'
        ) == [(1.5, "ms", True)]
        assert await _rows(admin, "SELECT id, status FROM public.backup_metadata ORDER BY id") == [
            ("found", "completed"),
            ("lost", "failed"),
        ]
        assert await admin.fetch("SELECT * FROM private.slot_drift()") == []


async def test_no_stream_key_is_left_but_in_the_seeds_own_tables(upgraded: Database) -> None:
    async with upgraded.connect() as admin:
        for table in ("stream_sessions", "stream_requests"):
            assert (
                await _rows(admin, f"SELECT id FROM public.{table} t WHERE t::text LIKE '%canary-key%'") == []
            )
            assert (
                len(await _rows(admin, f"SELECT id FROM seed.{table} t WHERE t::text LIKE '%canary-key%'"))
                > 0
            )


async def test_an_upgraded_database_allows_what_a_new_one_allows(upgraded: Database) -> None:
    async with upgraded.connect() as admin:
        # Whose rows are seen is told by three users, and no more.
        await admin.execute(
            "SET session_replication_role = replica;"
            " TRUNCATE public.users, private.package_grants, public.stream_sessions, public.stream_requests,"
            " public.user_activities, public.error_logs, public.performance_metrics, public.backup_metadata"
            " CASCADE; RESET session_replication_role"
        )
        people = await settle(admin)
        assert [one async for one in findings(admin, expected(), people)] == []
        for role in ("anon", "authenticated", "service_role", "streamax_users", "streamax_streams"):
            assert (await attempt(admin, "SELECT * FROM seed.users", role=role)).refused("42501")


async def test_sign_up_works_after_the_upgrade(upgraded: Database) -> None:
    async with upgraded.connect() as admin:
        made = await attempt(
            admin,
            "INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), 'new@example.com')",
            role="supabase_auth_admin",
        )
        assert made.rows == 1
        assert await admin.fetchval("SELECT count(*) FROM public.users WHERE email = 'new@example.com'") == 1


async def test_tables_of_another_application_are_not_touched(supabase_shape: Shape) -> None:
    with supabase_shape.bare() as made:
        made.run("CREATE TABLE public.users (id integer, name text)")
        with pytest.raises(MigrationFailed, match=r"0003_seed_aside\.sql: public holds tables by our names"):
            await migrate(supabase_shape.migrant_dsn(made))


async def _rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in await connection.fetch(query)]
