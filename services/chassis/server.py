"""A gRPC server with everything a service of ours needs around its servicers.

server = Server(config.server, layers=…, drain=drain)
server.add(servicer, register=add_…Servicer_to_server, service="…", access={…}, checks=(db.check,))
async with server: await worker.stopping.wait()
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Self

import grpc
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.chassis.auth import Access
from services.chassis.errors import Unavailable, Unimplemented
from services.chassis.layers import Drain, Layer, LayersConfig
from services.chassis.layers.mount import mount

__all__ = ["AccessUnclear", "Server", "ServerConfig"]

_log = logging.getLogger(__name__)

Check = Callable[[], Awaitable[None]]


class AccessUnclear(Exception):
    """A served method has no access entry, or an entry has no method; the server does not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where to listen, and what to withstand."""

    host: str = "127.0.0.1"
    #: 0: any free port, for one worker.
    port: int = 0
    layers: LayersConfig = field(default_factory=LayersConfig)
    #: How long calls in flight may take to finish after a stop.
    grace: timedelta = timedelta(seconds=10)
    #: Between NOT_SERVING and the refusal of new calls: for whoever watches our health to hear of it.
    drain_delay: timedelta = timedelta(milliseconds=100)
    #: How often the dependencies are asked; health tells the truth of at most this plus one timeout ago.
    check_interval: timedelta = timedelta(seconds=1)
    check_timeout: timedelta = timedelta(seconds=1)
    max_concurrent_streams: int = 10_000
    max_metadata_bytes: int = 16 * 1024
    #: Connections are closed after about so long, so that clients find new servers; watches resume.
    max_connection_age: timedelta = timedelta(minutes=30)

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be between 0 and 65535")


class Server:
    """Built by `add`, served between `start` and `stop`."""

    def __init__(
        self, config: ServerConfig, *, layers: Sequence[Layer], drain: Drain, reuse_port: bool = False
    ) -> None:
        """`layers` outermost first, with `drain` among them; `reuse_port` where others serve the port too."""
        self._config = config
        self._layers = layers
        self._drain = drain
        self._server = aio.server(options=_options(config, reuse_port=reuse_port))
        self._handlers: dict[str, Any] = {}
        self._checks: dict[str, tuple[Check, ...]] = {}
        self._health = _Health(drain)
        self._unhealthy: set[str] = set()
        self._polling: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        """host:port, once started."""
        return f"{self._config.host}:{self.port}"

    def add(
        self,
        servicer: Any,
        *,
        register: Callable[[Any, Any], None],
        service: str,
        access: Mapping[str, Access],
        checks: Sequence[Check] = (),
    ) -> None:
        """Serves a servicer by its generated `add_XServicer_to_server`.

        `access` names who may call each method; `checks` raise while the service
        cannot work. Raises AccessUnclear.
        """
        registrar = _Registrar()
        register(servicer, registrar)
        unclear = access.keys() ^ registrar.handlers.keys()
        if unclear:
            raise AccessUnclear(f"{service}: no method or no access entry for {', '.join(sorted(unclear))}")
        for name, handler in registrar.handlers.items():
            path = f"/{service}/{name}"
            self._handlers[path] = mount(path, handler, access=access[name], layers=self._layers)
        self._checks[service] = tuple(checks)

    async def start(self) -> None:
        """Binds, and serves; health says NOT_SERVING until the first round of checks."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [*self._checks, health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, self._server)
        # Last: it answers for every path that nobody else knows.
        self._server.add_generic_rpc_handlers((_Routes(self._handlers, self._layers),))
        self.port = self._server.add_insecure_port(f"{self._config.host}:{self._config.port}")
        await self._poll_once()
        await self._server.start()
        self._polling = asyncio.create_task(self._poll(), name="health checks")

    async def stop(self, grace: timedelta | None = None) -> None:
        """NOT_SERVING at once; then calls in flight finish, streams end with UNAVAILABLE; then force."""
        if self._polling is not None:
            self._polling.cancel()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._config.drain_delay.total_seconds())
        self._drain.begin()
        await self._server.stop((self._config.grace if grace is None else grace).total_seconds())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._config.check_interval.total_seconds())
            await self._poll_once()

    async def _poll_once(self) -> None:
        # Whatever a check raises, even what it should not, means that the service cannot work.
        outcomes = await asyncio.gather(
            *(self._check(service) for service in self._checks), return_exceptions=True
        )
        for service, outcome in zip(self._checks, outcomes, strict=True):
            self._note(service, outcome)
            await self._health.set(service, _status(service not in self._unhealthy))
        await self._health.set("", _status(not self._unhealthy))

    async def _check(self, service: str) -> None:
        async with asyncio.timeout(self._config.check_timeout.total_seconds()):
            for check in self._checks[service]:
                await check()

    def _note(self, service: str, outcome: BaseException | None) -> None:
        if outcome is not None and service not in self._unhealthy:
            self._unhealthy.add(service)
            _log.warning("unhealthy", extra={"rpc_service": service, "detail": repr(outcome)})
        elif outcome is None and service in self._unhealthy:
            self._unhealthy.discard(service)
            _log.warning("healthy again", extra={"rpc_service": service})


class _Health(health.aio.HealthServicer):
    """grpcio's own, but a watch ends at the drain: it would hold the whole grace period."""

    def __init__(self, drain: Drain) -> None:
        super().__init__()
        self._drain = drain

    async def Watch(self, request: Any, context: Any) -> None:
        try:
            await self._drain.bracket(super().Watch(request, context))
        except Unavailable as error:
            await context.abort(error.code, error.message)


def _status(serving: bool) -> Any:
    response = health_pb2.HealthCheckResponse
    return response.SERVING if serving else response.NOT_SERVING


def _options(config: ServerConfig, *, reuse_port: bool) -> list[tuple[str, Any]]:
    return [
        # Off unless asked for: with it, a second process on the port by mistake would share its calls.
        ("grpc.so_reuseport", int(reuse_port)),
        # Four times what the codec accepts, so that most oversized messages get a typed answer.
        ("grpc.max_receive_message_length", 4 * config.layers.max_message_bytes),
        ("grpc.max_metadata_size", config.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", 2 * config.max_metadata_bytes),
        ("grpc.max_concurrent_streams", config.max_concurrent_streams),
        # The default rejects about a third of 5,000 streams opened at once, with a bare
        # CANCELLED: and after a restart every watcher comes back at once.
        ("grpc.server.max_pending_requests", 100_000),
        ("grpc.server.max_pending_requests_hard_limit", 200_000),
        # A client may ping every 20 s, also between calls; the default is 5 minutes, then GOAWAY.
        ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.max_connection_age_ms", int(config.max_connection_age.total_seconds() * 1000)),
        ("grpc.max_connection_age_grace_ms", 60_000),
    ]


class _Registrar:
    """Stands in for the server in the generated registration, to take the handlers from it."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The same handlers, by another door."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.handlers.update(handlers)


class _Routes(grpc.GenericRpcHandler):
    """One table for all methods of all services; an explained refusal for the rest."""

    def __init__(self, handlers: Mapping[str, Any], layers: Sequence[Layer]) -> None:
        self._handlers = handlers
        self._layers = layers
        self._unknown = mount(
            "/unknown/unknown",
            grpc.unary_unary_rpc_method_handler(_refuse),
            access=Access.PUBLIC,
            layers=layers,
        )

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return self._handlers.get(details.method, self._unknown)


async def _refuse(_request: object, _context: object) -> None:
    raise Unimplemented
