"""streamax.users.v1.UserService: an end user's own account."""

from typing import Any

from services.chassis.auth import require_user
from services.chassis.database import Database
from services.users import store, wire
from streamax.users.v1 import user_pb2, user_service_pb2
from streamax.users.v1.user_service_pb2_grpc import UserServiceServicer


class UserService(UserServiceServicer):
    """Every method is about the caller."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GetMe(self, request: user_service_pb2.GetMeRequest, context: Any) -> user_pb2.User:
        return wire.user(await store.get_me(self._db, require_user()))
