"""Authorisation: may this kind of principal call this method at all?

Whose rows it may see is SQL's matter, and so is who is an administrator.
"""

from typing import Any

from services.chassis.auth import Access, Role
from services.chassis.errors import RoleRequired
from services.chassis.layers.call import Call, Handler, Method

__all__ = ["Authorisation"]

_REQUIRED = {
    Access.USER: Role.AUTHENTICATED,
    Access.ADMIN: Role.AUTHENTICATED,
    Access.SERVICE: Role.SERVICE,
}


class Authorisation:
    """The layer; leaves public methods alone."""

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        if method.access is Access.PUBLIC:
            return proceed
        required = _REQUIRED[method.access]

        async def authorised(call: Call) -> Any:
            if call.principal.role is not required:
                raise RoleRequired(metadata={"method": method.path})
            return await proceed(call)

        return authorised
