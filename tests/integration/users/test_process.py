import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from services.chassis.errors import Internal
from services.chassis.vault import Vault
from services.users.errors import CredentialsInvalid, EmailUnavailable, RefreshTokenInvalid
from services.users.tokens import refresh_token_hash
from streamax.users.v1.user_service_pb2 import GetMeRequest
from tests.support.database import Database
from tests.support.process import free_port, service_process
from tests.support.refusals import refused
from tests.support.tokens import bearer
from tests.support.users import Client, client_at


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def vault_key() -> str:
    return Vault.new_key()


@pytest.fixture
def config_file(database: Database, tmp_path: Path, port: int, vault_key: str) -> Path:
    """As an operator writes it; cheap passwords apart."""
    key_file = tmp_path / "vault.key"
    key_file.touch(mode=0o600)
    key_file.write_text(vault_key)
    path = tmp_path / "users.toml"
    path.write_text(
        f"""
vault_key_file = "vault.key"
workers = 2

[server]
port = {port}

[database]
url = "{database.dsn("streamax_users")}"

[tokens]
issuer = "https://streamax.example"
access_lifetime = "30m"

[passwords]
time_cost = 1
memory_kib = 8
"""
    )
    return path


async def test_workers_share_port_key_and_sessions(config_file: Path, port: int, database: Database) -> None:
    async with service_process("users", config_file) as service:
        async with client_at(port, database) as client:
            made = await client.sign_up()
        assert made.tokens.expires_in.ToTimedelta().total_seconds() == 1800

        # A connection of its own each: the kernel gives it to one of the workers.
        async def refresh() -> str:
            async with client_at(port, database) as client:
                tokens = await client.refresh(made.tokens.refresh_token)
                me = await client.users.GetMe(GetMeRequest(), metadata=bearer(tokens.access_token))
                assert me == made.user
                return tokens.refresh_token

        assert len(set(await asyncio.gather(*(refresh() for _ in range(16))))) == 1
        assert await client.value("SELECT count(*) FROM private.signing_keys") == 1
        assert await service.stop() == 0
    answered_by = {line["pid"] for line in service.lines() if line["message"] == "rpc"}
    assert len(answered_by) == 2


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what an OpenTelemetry collector would be sent."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.text = b""

    async def Export(self, request: Any, context: Any) -> Any:
        self.text += request.SerializeToString()
        self.spans += [
            span for one in request.resource_spans for scope in one.scope_spans for span in scope.spans
        ]
        return trace_service_pb2.ExportTraceServiceResponse()


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    collector, server = Collector(), grpc.aio.server()
    # Generated without annotations.
    register: Callable[[Any, Any], None] = trace_service_pb2_grpc.add_TraceServiceServicer_to_server
    register(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def every_way_to_succeed_and_fail(client: Client) -> list[str]:
    """Each call, answered and refused and broken; returns all that was secret in them."""
    password, wrong = "canary-Xylophon-47", "canary-Zebrafink-48"
    made = await client.sign_up("ada@example.com", password)
    with refused(EmailUnavailable):
        await client.sign_up("ada@example.com", wrong)
    signed_in = await client.sign_in("ada@example.com", password)
    with refused(CredentialsInvalid):
        await client.sign_in("ada@example.com", wrong)
    refreshed = await client.refresh(made.tokens.refresh_token)
    with refused(RefreshTokenInvalid):
        await client.refresh("canary-Nachtigall-49")
    await client.users.GetMe(GetMeRequest(), metadata=bearer(refreshed.access_token))
    hashes = [await client.value("SELECT password_hash FROM private.credentials")]

    # A row the database refuses: its error message quotes the whole row, hash included.
    await client.execute("ALTER TABLE private.credentials ADD CONSTRAINT broken CHECK (false) NOT VALID")
    await client.execute("ALTER TABLE private.refresh_tokens ADD CONSTRAINT broken CHECK (false) NOT VALID")
    with refused(Internal):
        await client.sign_up("eve@example.com", password)
    with refused(Internal):
        await client.refresh(refreshed.refresh_token)
    # A hash that is none.
    await client.execute("ALTER TABLE private.credentials DROP CONSTRAINT broken")
    await client.execute("UPDATE private.credentials SET password_hash = '$argon2id$canary-Elster-50'")
    with refused(Internal):
        await client.sign_in("ada@example.com", password)

    tokens = [made.tokens, signed_in.tokens, refreshed]
    return [
        "canary",
        *(each.access_token for each in tokens),
        *(each.access_token.rpartition(".")[2] for each in tokens),
        *(each.refresh_token for each in tokens),
        *(refresh_token_hash(each.refresh_token).hex() for each in tokens),
        *hashes,
        "$argon2id$",
    ]


async def test_no_secret_is_in_logs_or_traces(
    config_file: Path, port: int, database: Database, vault_key: str
) -> None:
    async with collecting() as (collector, endpoint):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_INSECURE": "true"}
        async with service_process("users", config_file, environment=environment) as service:
            async with client_at(port, database) as client:
                secrets = [vault_key, *await every_way_to_succeed_and_fail(client)]
            assert await service.stop() == 0
        log = "".join(service.log)
    # Both were there to be searched: the broken calls with their tracebacks, the spans of all.
    assert log.count("Traceback") >= 3
    assert {span.name for span in collector.spans} >= {
        "streamax.users.v1.AuthService/SignUp",
        "streamax.users.v1.AuthService/RefreshToken",
        "streamax.users.v1.UserService/GetMe",
    }
    for secret in secrets:
        assert secret not in log
        assert secret.encode() not in collector.text
