"""A tiny service with all four shapes of RPC, served by the chassis, for tests of the chassis.

Its messages are made here, so that the chassis is tested without any message of ours.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import grpc
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.chassis.auth import Access, AuthConfig, Verifier
from services.chassis.clock import Clock
from services.chassis.layers import Drain, LayersConfig, standard
from services.chassis.layers.call import Context
from services.chassis.server import Check, Server, ServerConfig
from tests.support.tokens import Issuer

SERVICE = "tests.probe.Probe"


def _messages() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/probe.proto",
        package="tests.probe",
        syntax="proto3",
        dependency=["buf/validate/validate.proto"],
    )
    ask = file.message_type.add(name="Ask")
    string = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    one, many = (
        descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED,
    )
    ask.field.add(name="text", number=1, type=string, label=one)
    words = ask.field.add(name="words", number=2, type=string, label=many)
    rules: Any = words.options.Extensions[cast(Any, validate_pb2.field)]
    rules.repeated.items.string.max_len = 5
    file.message_type.add(name="Answer").field.add(name="text", number=1, type=string, label=one)
    pool = descriptor_pool.Default()
    pool.Add(file)
    added = pool.FindFileByName(file.name)
    messages = (added.message_types_by_name[name] for name in ("Ask", "Answer"))
    ask_class, answer_class = (message_factory.GetMessageClass(each) for each in messages)
    return ask_class, answer_class


Ask, Answer = _messages()


async def _echo(request: Any, _: Context) -> Any:
    return Answer(text=request.text)


async def _echo_words(request: Any, _: Context) -> AsyncIterator[Any]:
    for word in request.words:
        yield Answer(text=word)


async def _join(requests: AsyncIterator[Any], _: Context) -> Any:
    return Answer(text=" ".join([request.text async for request in requests]))


async def _echo_each(requests: AsyncIterator[Any], _: Context) -> AsyncIterator[Any]:
    async for request in requests:
        yield Answer(text=request.text)


@dataclass(slots=True)
class Probe:
    """A servicer; each method does what it is given."""

    one_one: Callable[[Any, Context], Awaitable[Any]] = _echo
    one_many: Callable[[Any, Context], AsyncIterator[Any]] = _echo_words
    many_one: Callable[[AsyncIterator[Any], Context], Awaitable[Any]] = _join
    many_many: Callable[[AsyncIterator[Any], Context], AsyncIterator[Any]] = _echo_each


def add_probe_to_server(probe: Probe, server: Any) -> None:
    """What protoc would generate."""
    codec = {"request_deserializer": Ask.FromString, "response_serializer": Answer.SerializeToString}
    handlers = {
        "OneOne": grpc.unary_unary_rpc_method_handler(probe.one_one, **codec),
        "OneMany": grpc.unary_stream_rpc_method_handler(probe.one_many, **codec),
        "ManyOne": grpc.stream_unary_rpc_method_handler(probe.many_one, **codec),
        "ManyMany": grpc.stream_stream_rpc_method_handler(probe.many_many, **codec),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def raw(channel: grpc.aio.Channel, path: str, *, shape: str = "unary_unary") -> Any:
    """A method called in bytes."""
    return getattr(channel, shape)(path)


METHODS = ("OneOne", "OneMany", "ManyOne", "ManyMany")


class ProbeStub:
    """What protoc would generate, for the other side."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        codec = {"request_serializer": Ask.SerializeToString, "response_deserializer": Answer.FromString}
        path = f"/{SERVICE}"
        self.OneOne: Any = channel.unary_unary(f"{path}/OneOne", **codec)
        self.OneMany: Any = channel.unary_stream(f"{path}/OneMany", **codec)
        self.ManyOne: Any = channel.stream_unary(f"{path}/ManyOne", **codec)
        self.ManyMany: Any = channel.stream_stream(f"{path}/ManyMany", **codec)


@dataclass(slots=True)
class Served:
    """A probe being served, and how to call it."""

    server: Server
    channel: grpc.aio.Channel
    issuer: Issuer
    stub: ProbeStub = field(init=False)

    def __post_init__(self) -> None:
        self.stub = ProbeStub(self.channel)

    def user(self, subject: UUID | None = None, **claims: Any) -> tuple[tuple[str, str], ...]:
        """The metadata of a call by a user."""
        return (("authorization", f"Bearer {self.issuer.token(subject or uuid4(), **claims)}"),)


@asynccontextmanager
async def serving(
    probe: Probe,
    *,
    access: Access = Access.PUBLIC,
    accesses: Mapping[str, Access] | None = None,
    layers: LayersConfig | None = None,
    checks: tuple[Check, ...] = (),
    clock: Clock | None = None,
    reuse_port: bool = False,
    port: int = 0,
    grace: timedelta = timedelta(seconds=5),
) -> AsyncIterator[Served]:
    """The probe behind all layers, on a port of its own; stopped at the end."""
    issuer, drain = Issuer(), Drain()
    config = ServerConfig(
        layers=layers or LayersConfig(),
        grace=grace,
        port=port,
        check_interval=timedelta(milliseconds=50),
        check_timeout=timedelta(milliseconds=200),
    )
    server = Server(
        config,
        layers=standard(config.layers, verifier=Verifier(issuer, AuthConfig(), clock=clock), drain=drain),
        drain=drain,
        reuse_port=reuse_port,
    )
    server.add(
        probe,
        register=add_probe_to_server,
        service=SERVICE,
        access=dict.fromkeys(METHODS, access) if accesses is None else accesses,
        checks=checks,
    )
    async with server, grpc.aio.insecure_channel(server.address) as channel:
        yield Served(server, channel, issuer)
