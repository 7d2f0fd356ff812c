"""streamax.users.v1.AuthService: sign-up, sign-in and the keys that verify our tokens."""

from typing import Any

from services.users import wire
from services.users.identity import Identity
from services.users.keys import KeyRing
from streamax.users.v1 import auth_service_pb2 as pb
from streamax.users.v1.auth_service_pb2_grpc import AuthServiceServicer


class AuthService(AuthServiceServicer):
    """Public: who calls is not known yet.

    Nothing here limits the attempts of one account or address. What slows guessing down is
    the bounded pool of credentials.py: six attempts a second and process, for everybody.
    """

    def __init__(self, *, identity: Identity, keys: KeyRing) -> None:
        self._identity = identity
        self._keys = keys

    async def SignUp(self, request: pb.SignUpRequest, context: Any) -> pb.SignUpResponse:
        signed_in = await self._identity.sign_up(wire.email(request.email), request.password)
        return pb.SignUpResponse(user=wire.user(signed_in.user), tokens=wire.tokens(signed_in.tokens))

    async def SignIn(self, request: pb.SignInRequest, context: Any) -> pb.SignInResponse:
        signed_in = await self._identity.sign_in(wire.email(request.email), request.password)
        return pb.SignInResponse(user=wire.user(signed_in.user), tokens=wire.tokens(signed_in.tokens))

    async def RefreshToken(self, request: pb.RefreshTokenRequest, context: Any) -> pb.RefreshTokenResponse:
        tokens = await self._identity.refresh(request.refresh_token)
        return pb.RefreshTokenResponse(tokens=wire.tokens(tokens))

    async def GetJwks(self, request: pb.GetJwksRequest, context: Any) -> pb.GetJwksResponse:
        return pb.GetJwksResponse(keys=[wire.json_web_key(key) for key in self._keys.published])
