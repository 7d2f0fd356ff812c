"""One servicer per proto service; a method unpacks, makes one call, packs."""

from services.chassis.auth import Access
from services.chassis.database import Database
from services.chassis.pages import PageTokens
from services.chassis.server import Server
from services.streams.admission import Admission
from services.streams.rpc.stream import StreamService
from services.streams.wake import Waker
from services.streams.watch import Watch
from streamax.streams.v1.stream_service_pb2_grpc import add_StreamServiceServicer_to_server


def add_services(
    server: Server, *, database: Database, admission: Admission, pages: PageTokens, waker: Waker, watch: Watch
) -> None:
    """All that the streams service answers, who may call each, and what it needs to be healthy."""
    server.add(
        StreamService(database=database, admission=admission, pages=pages, waker=waker, watch=watch),
        register=add_StreamServiceServicer_to_server,
        service="streamax.streams.v1.StreamService",
        access={
            "StartStream": Access.USER,
            "StopStream": Access.USER,
            "GetSession": Access.USER,
            "ListSessions": Access.USER,
            "WatchSessions": Access.USER,
        },
        checks=(database.check,),
    )
