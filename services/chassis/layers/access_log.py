"""Access log: one line per call, refused or not, with how long it took and how it ended."""

import time
from typing import Any

from services.chassis import logs
from services.chassis.errors import Error, code_of
from services.chassis.layers.call import Call, Handler, Method

__all__ = ["AccessLog"]


class AccessLog:
    """The layer. Formats no text but its own fields, so nothing here needs scrubbing."""

    def __call__(self, method: Method, proceed: Handler) -> Handler:
        async def logged(call: Call) -> Any:
            began = time.perf_counter()
            code, reason = "OK", None
            try:
                return await proceed(call)
            except BaseException as error:
                code = code_of(error).name
                reason = error.reason if isinstance(error, Error) else None
                raise
            finally:
                logs.event(
                    "rpc",
                    method=method.path,
                    code=code,
                    reason=reason,
                    ms=round((time.perf_counter() - began) * 1000, 3),
                    subject=call.principal.subject,
                    impersonator=call.principal.impersonator,
                    trace_id=call.trace_id,
                )

        return logged
