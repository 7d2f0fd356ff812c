"""The keys that verify access tokens, asked of the users service."""

from collections.abc import Mapping, Sequence

from grpc import aio

from services.chassis.errors import from_rpc_error
from services.chassis.keys import KeysUnavailable
from streamax.users.v1.auth_service_pb2 import GetJwksRequest, JsonWebKey
from streamax.users.v1.auth_service_pb2_grpc import AuthServiceStub


class JwksClient:
    """A chassis KeySource over AuthService.GetJwks."""

    def __init__(self, channel: aio.Channel) -> None:
        """`channel` to the users service; the caller closes it."""
        self._auth = AuthServiceStub(channel)

    async def fetch(self) -> Sequence[Mapping[str, str]]:
        """All published keys. Raises KeysUnavailable."""
        try:
            response = await self._auth.GetJwks(GetJwksRequest())
        except aio.AioRpcError as error:
            refusal = from_rpc_error(error)
            raise KeysUnavailable(f"users: {refusal.reason}: {refusal.message}") from error
        return [_jwk(key) for key in response.keys]


def _jwk(key: JsonWebKey) -> Mapping[str, str]:
    return {
        "kid": key.kid,
        "kty": key.kty,
        "alg": key.alg,
        "use": key.use,
        "crv": key.crv,
        "x": key.x,
        "y": key.y,
    }
