"""Authentication: the bearer token of the call becomes its principal."""

import asyncio
from typing import Any

from services.chassis.auth import Access, Verifier, bearer, use_principal
from services.chassis.clock import Clock, SystemClock
from services.chassis.errors import TokenExpired
from services.chassis.layers.call import Call, Handler, Method

__all__ = ["Authentication"]


class Authentication:
    """The layer; leaves public methods alone. A stream ends when its token does."""

    def __init__(self, verifier: Verifier, *, clock: Clock | None = None) -> None:
        self._verifier = verifier
        self._clock = clock or SystemClock()

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        if method.access is Access.PUBLIC:
            return proceed
        serve = self._while_token_lives(proceed) if method.response_streaming else proceed
        verifier = self._verifier

        async def authenticated(call: Call) -> Any:
            token = bearer(call.metadata.get("authorization"))
            call.principal = verifier.recall(token) or await verifier.verify(token)
            use_principal(call.principal)
            return await serve(call)

        return authenticated

    def _while_token_lives(self, proceed: Handler) -> Handler:
        async def bounded(call: Call) -> Any:
            expires_at = call.principal.expires_at
            left = None if expires_at is None else (expires_at - self._clock.now()).total_seconds()
            try:
                async with asyncio.timeout(left) as timeout:
                    return await proceed(call)
            except TimeoutError:
                if timeout.expired():
                    raise TokenExpired from None
                raise

        return bounded
