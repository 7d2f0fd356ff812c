"""One servicer per proto service; a method unpacks, makes one call, packs."""

from services.chassis.auth import Access
from services.chassis.database import Database
from services.chassis.server import Server
from services.users.identity import Identity
from services.users.keys import KeyRing
from services.users.rpc.auth import AuthService
from services.users.rpc.user import UserService
from services.users.rpc.user_admin import UserAdminService
from streamax.users.v1.auth_service_pb2_grpc import add_AuthServiceServicer_to_server
from streamax.users.v1.user_admin_service_pb2_grpc import add_UserAdminServiceServicer_to_server
from streamax.users.v1.user_service_pb2_grpc import add_UserServiceServicer_to_server


def add_services(server: Server, *, db: Database, identity: Identity, keys: KeyRing) -> None:
    """All that the users service answers, who may call each, and what it needs to be healthy."""
    server.add(
        AuthService(identity=identity, keys=keys),
        register=add_AuthServiceServicer_to_server,
        service="streamax.users.v1.AuthService",
        access={
            "SignUp": Access.PUBLIC,
            "SignIn": Access.PUBLIC,
            "RefreshToken": Access.PUBLIC,
            "GetJwks": Access.PUBLIC,
        },
        checks=(db.check,),
    )
    server.add(
        UserService(db),
        register=add_UserServiceServicer_to_server,
        service="streamax.users.v1.UserService",
        access={"GetMe": Access.USER},
        checks=(db.check,),
    )
    server.add(
        UserAdminService(db),
        register=add_UserAdminServiceServicer_to_server,
        service="streamax.users.v1.UserAdminService",
        access={"GrantPackage": Access.ADMIN},
        checks=(db.check,),
    )
