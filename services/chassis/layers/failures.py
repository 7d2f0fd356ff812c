"""Failures: whatever was raised within becomes a rich gRPC status, and nothing else does."""

import logging
from typing import Any

from grpc import aio

from services.chassis.errors import STATUS_TRAILER, Error, Internal
from services.chassis.layers.call import Call, Handler, Method

__all__ = ["Failures"]

_log = logging.getLogger(__name__)


class Failures:
    """The layer."""

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        async def explained(call: Call) -> Any:
            try:
                return await proceed(call)
            except Error as error:
                _log_private(call, error)
                refused = error
            except aio.AbortError:
                raise  # Somebody has already sent a status.
            except Exception:
                # One of the two places that catch everything: an RPC must be
                # answered, and its caller must not learn what broke.
                _log.exception("rpc failed", extra=_about(call))
                refused = Internal(metadata={"trace_id": call.trace_id})
            return await _abort(call, refused)

        return explained


async def _abort(call: Call, error: Error) -> None:
    # abort() replaces the trailers that the handler has set; they say where to resume.
    trailers = tuple(call.context.trailing_metadata() or ())
    status = error.to_status()
    await call.context.abort(
        error.code, status.message, (*trailers, (STATUS_TRAILER, status.SerializeToString()))
    )


def _log_private(call: Call, error: Error) -> None:
    if isinstance(error, Internal):
        error.metadata = {**error.metadata, "trace_id": call.trace_id}
        _log.error("rpc failed", extra={**_about(call), "detail": error.private}, exc_info=error)
    elif error.private:
        _log.info("rpc refused", extra={**_about(call), "reason": error.reason, "detail": error.private})


def _about(call: Call) -> dict[str, str]:
    return {"method": call.method.path, "trace_id": call.trace_id}
