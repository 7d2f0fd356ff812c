"""Channels to our own services: with a deadline, retries, the trace and an identity on every call."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from grpc import aio

from services.chassis import deadline, propagation
from services.chassis.auth import current_principal

__all__ = ["ChannelConfig", "Identity", "callers_token", "nobody", "open_channel"]

#: Gives the bearer token of a call; None calls as nobody.
Identity = Callable[[], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelConfig:
    """Where a service of ours is, and how long it may take."""

    #: host:port, or any gRPC target (dns:///users:50051).
    target: str
    #: Given to calls made outside an RPC; inside, the caller's remaining time counts if it is shorter.
    timeout: timedelta = timedelta(seconds=5)


async def callers_token() -> str | None:
    """The token of the RPC being served: the call is made on the caller's own behalf."""
    return current_principal().token


async def nobody() -> str | None:
    """Calls without a token, to public methods."""
    return None


def open_channel(config: ChannelConfig, *, identity: Identity = nobody) -> aio.Channel:
    """An `async with` channel for the generated stubs."""
    return aio.insecure_channel(
        config.target,
        options=[
            ("grpc.service_config", orjson.dumps(_SERVICE_CONFIG).decode()),
            ("grpc.enable_retries", 1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            # After a restart of the peer the default waits up to two minutes.
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ],
        interceptors=_interceptors(config, identity),
    )


# UNAVAILABLE only: it alone says that the call had no effect, or one that its
# request_id makes harmless to repeat. The throttle stops retries in an outage.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.5},
}


class _Outgoing:
    """What every call carries, whatever its shape."""

    def __init__(self, config: ChannelConfig, identity: Identity) -> None:
        self._timeout = config.timeout.total_seconds()
        self._identity = identity

    async def details(self, details: aio.ClientCallDetails, *, streams: bool) -> aio.ClientCallDetails:
        metadata = aio.Metadata(*(details.metadata or ()))
        token = await self._identity()
        if token is not None and metadata.get("authorization") is None:
            metadata.add("authorization", f"Bearer {token}")
        parent = propagation.inject()
        if parent is not None:
            metadata.add("traceparent", parent)
        return aio.ClientCallDetails(
            details.method,
            self._seconds(details.timeout, streams=streams),
            metadata,
            details.credentials,
            details.wait_for_ready,
        )

    def _seconds(self, asked: float | None, *, streams: bool) -> float | None:
        ceilings = [asked if asked is not None or streams else self._timeout, deadline.remaining()]
        known = [each for each in ceilings if each is not None]
        return min(known) if known else None


class _UnaryUnary(_Outgoing, aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(await self.details(client_call_details, streams=False), request)


class _UnaryStream(_Outgoing, aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(await self.details(client_call_details, streams=True), request)


class _StreamUnary(_Outgoing, aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(await self.details(client_call_details, streams=True), request_iterator)


class _StreamStream(_Outgoing, aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        return await continuation(await self.details(client_call_details, streams=True), request_iterator)


def _interceptors(config: ChannelConfig, identity: Identity) -> Sequence[Any]:
    # gRPC looks at one base class per interceptor object, so the one concern needs four objects.
    return [kind(config, identity) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]
