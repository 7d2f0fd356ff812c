"""streamax.users.v1.UserAdminService: administration of accounts.

That the caller is an administrator is decided by `users.role` inside each statement: no token
and no layer here can make one.
"""

from typing import Any

from services.chassis.auth import require_user
from services.chassis.database import Database
from services.users import store, wire
from streamax.users.v1 import user_admin_service_pb2 as pb
from streamax.users.v1.user_admin_service_pb2_grpc import UserAdminServiceServicer


class UserAdminService(UserAdminServiceServicer):
    """Every method is about somebody else."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def GrantPackage(self, request: pb.GrantPackageRequest, context: Any) -> pb.PackageGrant:
        order = wire.grant_order(request)
        return wire.package_grant(await store.grant_package(self._db, require_user(), order))
