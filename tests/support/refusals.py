"""How a call failed, as its caller sees it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import pytest

from services.chassis.errors import Error, from_rpc_error


@dataclass(slots=True)
class Refusal:
    """Filled when the `with refused(...)` ends."""

    error: Error = field(default_factory=Error)
    #: Everything the caller got: code, sentence, trailers.
    answer: tuple[object, ...] = ()


@contextmanager
def refused(kind: type[Error], *, field: str | None = None) -> Iterator[Refusal]:
    """The call within is refused with this reason, and names just this field if one is given."""
    refusal = Refusal()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield refusal
    error = caught.value
    refusal.error = from_rpc_error(error)
    refusal.answer = (error.code(), error.details(), *(error.trailing_metadata() or ()))
    assert type(refusal.error) is kind
    assert error.code() is kind.code
    if field is not None:
        assert [violation.field for violation in refusal.error.fields] == [field]
