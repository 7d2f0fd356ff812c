"""Every way an RPC can fail, in one catalogue, and how a failure looks to its caller.

An `Error` carries a gRPC status code, a machine-readable reason, a public
sentence and a private detail. The public half travels as a google.rpc.Status
whose ErrorInfo has the domain "streamax"; the private half only reaches the log.
A class exists where somebody handles the failure by its reason; everything else
is `Internal`. Services add their own kinds by subclassing: defining a class puts
it into the catalogue.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, ClassVar, Self

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

__all__ = [
    "Cancelled",
    "Contention",
    "DeadlineExceeded",
    "Error",
    "EtagMismatch",
    "FieldViolation",
    "Internal",
    "InvalidField",
    "MessageTooLarge",
    "NotOfferedHere",
    "PageTokenInvalid",
    "QuotaViolation",
    "RateLimited",
    "RequestIdReused",
    "Resource",
    "ResourceNotFound",
    "RoleRequired",
    "StateConflict",
    "TokenExpired",
    "TokenInvalid",
    "TokenMissing",
    "Unavailable",
    "Unimplemented",
    "catalogue",
    "code_of",
    "from_rpc_error",
    "from_status",
    "refusal",
]

DOMAIN = "streamax"
STATUS_TRAILER = "grpc-status-details-bin"

# gRPC peers refuse trailers above 8 KiB (the default soft limit), and -bin
# metadata grows by a third in base64: a status above ~5 KiB would turn an
# explained refusal into an unexplained RESOURCE_EXHAUSTED at the client.
_MAX_STATUS_BYTES = 4096
_MAX_SENTENCE = 400


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks a rule; `field` is its path, `items[2].name`."""

    field: str
    description: str


@dataclass(frozen=True, slots=True)
class QuotaViolation:
    """One quota that would be exceeded; `subject` is whose, as `user:<uuid>`."""

    subject: str
    description: str


@dataclass(frozen=True, slots=True)
class Resource:
    """What was asked for: `type` as in the API ("Session"), `name` as the caller gave it."""

    type: str
    name: str


class Error(Exception):
    """Something went wrong."""

    # The first line of a subclass's docstring is its default public sentence.

    reason: ClassVar[str]
    code: ClassVar[grpc.StatusCode]
    #: What RetryInfo says when the raiser does not.
    default_retry_after: ClassVar[timedelta | None] = None

    def __init__(
        self,
        message: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[FieldViolation] = (),
        quota: Sequence[QuotaViolation] = (),
        retry_after: timedelta | None = None,
        resource: Resource | None = None,
        private: str = "",
    ) -> None:
        self.message = message or _first_line(type(self).__doc__)
        super().__init__(self.message)
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.fields = tuple(fields)
        self.quota = tuple(quota)
        self.retry_after = self.default_retry_after if retry_after is None else retry_after
        self.resource = resource
        self.private = private

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "reason" in cls.__dict__:
            _register(cls)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """The error that SQL raised with this reason and these details (a JSON object of strings)."""
        return cls(metadata=metadata)

    def to_status(self) -> status_pb2.Status:
        """The public half: code, sentence and details, small enough for any peer's trailers."""
        fields, quota = list(self.fields), list(self.quota)
        while True:
            status = status_pb2.Status(code=self.code.value[0], message=_clip(self.message))
            status.details.extend(_pack(detail) for detail in self._details(fields, quota))
            if status.ByteSize() <= _MAX_STATUS_BYTES or not (fields or quota):
                return status
            del fields[len(fields) // 2 :]
            del quota[len(quota) // 2 :]

    def _details(self, fields: Sequence[FieldViolation], quota: Sequence[QuotaViolation]) -> Iterable[Any]:
        yield error_details_pb2.ErrorInfo(
            reason=self.reason,
            domain=DOMAIN,
            metadata={key[:64]: _clip(value) for key, value in self.metadata.items()},
        )
        if fields:
            yield error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=_clip(each.field), description=_clip(each.description)
                    )
                    for each in fields
                ]
            )
        if quota:
            yield error_details_pb2.QuotaFailure(
                violations=[
                    error_details_pb2.QuotaFailure.Violation(
                        subject=_clip(each.subject), description=_clip(each.description)
                    )
                    for each in quota
                ]
            )
        if self.retry_after is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromTimedelta(self.retry_after)
            yield info
        if self.resource is not None:
            yield error_details_pb2.ResourceInfo(
                resource_type=self.resource.type, resource_name=_clip(self.resource.name)
            )


_catalogue: dict[str, type[Error]] = {}


def catalogue() -> Mapping[str, type[Error]]:
    """Reason -> class, of every kind defined so far (services' kinds once their errors.py is imported)."""
    return MappingProxyType(_catalogue)


def _register(cls: type[Error]) -> None:
    other = _catalogue.setdefault(cls.reason, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(f"{cls.__qualname__} and {other.__qualname__} both claim the reason {cls.reason}")
    _catalogue[cls.reason] = cls


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_SENTENCE else text[: _MAX_SENTENCE - 1] + "…"


def _pack(detail: Any) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(detail)
    return packed


def refusal(reason: str, metadata: Mapping[str, str]) -> Error:
    """The catalogue's error for a reason raised in SQL; an unknown reason is our own fault."""
    kind = _catalogue.get(reason)
    if kind is None:
        return Internal(private=f"SQL raised the unknown reason {reason!r} with {dict(metadata)!r}")
    return kind.from_metadata(metadata)


def from_status(status: status_pb2.Status) -> Error:
    """The error that a peer of ours sent; a foreign status becomes the kind nearest to its code."""
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    quota = error_details_pb2.QuotaFailure()
    retry = error_details_pb2.RetryInfo()
    resource = error_details_pb2.ResourceInfo()
    found: dict[str, bool] = {}
    for detail in status.details:
        for message in (info, bad_request, quota, retry, resource):
            if detail.Is(message.DESCRIPTOR):
                found[message.DESCRIPTOR.name] = detail.Unpack(message)
    kind = _catalogue.get(info.reason) if info.domain == DOMAIN else None
    if kind is None:
        kind = _nearest.get(status.code, Internal)
    return kind(
        status.message or None,
        metadata=dict(info.metadata),
        fields=[FieldViolation(each.field, each.description) for each in bad_request.field_violations],
        quota=[QuotaViolation(each.subject, each.description) for each in quota.violations],
        retry_after=retry.retry_delay.ToTimedelta() if "RetryInfo" in found else None,
        resource=Resource(resource.resource_type, resource.resource_name)
        if "ResourceInfo" in found
        else None,
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> Error:
    """The catalogue's error inside a failed call of ours to another service."""
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():
        if key == STATUS_TRAILER and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except DecodeError:
                status.Clear()
    status.code = status.code or error.code().value[0]
    status.message = status.message or error.details() or ""
    return from_status(status)


class InvalidField(Error):
    """A field of the request breaks a rule."""

    reason = "INVALID_FIELD"
    code = grpc.StatusCode.INVALID_ARGUMENT

    @classmethod
    def of(cls, field: str, description: str) -> Self:
        """One field, with what is wrong and the remedy."""
        return cls(f"{field}: {description}", fields=[FieldViolation(field, description)])

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        return cls.of(metadata.get("field", ""), metadata.get("description", ""))


class RequestIdReused(Error):
    """This request_id came before with other parameters; choose a new one."""

    reason = "REQUEST_ID_REUSED"
    code = grpc.StatusCode.INVALID_ARGUMENT


class PageTokenInvalid(Error):
    """The page token is not ours, or other arguments changed; list again from the first page."""

    reason = "PAGE_TOKEN_INVALID"
    code = grpc.StatusCode.INVALID_ARGUMENT


class TokenMissing(Error):
    """Send a bearer token in the authorization metadata."""

    reason = "TOKEN_MISSING"
    code = grpc.StatusCode.UNAUTHENTICATED


class TokenInvalid(Error):
    """The token is malformed, forged or meant for someone else; sign in again."""

    reason = "TOKEN_INVALID"
    code = grpc.StatusCode.UNAUTHENTICATED


class TokenExpired(Error):
    """The token has expired; refresh it."""

    reason = "TOKEN_EXPIRED"
    code = grpc.StatusCode.UNAUTHENTICATED


class RoleRequired(Error):
    """Your role may not call this method."""

    reason = "ROLE_REQUIRED"
    code = grpc.StatusCode.PERMISSION_DENIED


class ResourceNotFound(Error):
    """No such resource."""

    reason = "RESOURCE_NOT_FOUND"
    code = grpc.StatusCode.NOT_FOUND

    @classmethod
    def of(cls, type: str, name: object) -> Self:
        """A resource by its type as in the API and its name as the caller gave it."""
        return cls(f"{type} {name} does not exist.", resource=Resource(type, str(name)))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """SQL names the resource by the keys `type` and `name`."""
        if "type" not in metadata:
            return cls(metadata=metadata)
        return cls.of(metadata["type"], metadata.get("name", ""))


class StateConflict(Error):
    """The resource's state does not allow this."""

    reason = "STATE_CONFLICT"
    code = grpc.StatusCode.FAILED_PRECONDITION


class EtagMismatch(Error):
    """The etag is not the resource's current one; read it again."""

    reason = "ETAG_MISMATCH"
    code = grpc.StatusCode.ABORTED


class Contention(Error):
    """Other changes got in between too often; send the call again."""

    reason = "CONTENTION"
    code = grpc.StatusCode.ABORTED
    default_retry_after = timedelta(milliseconds=100)


class DeadlineExceeded(Error):
    """The deadline passed."""

    reason = "DEADLINE_EXCEEDED"
    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Unavailable(Error):
    """Something we depend on is not available; try again."""

    reason = "UNAVAILABLE"
    code = grpc.StatusCode.UNAVAILABLE
    default_retry_after = timedelta(seconds=1)

    @classmethod
    def of(cls, dependency: str, *, private: str = "") -> Self:
        """A dependency by the name operators know it by: "database", "engine", "users"."""
        return cls(metadata={"dependency": dependency}, private=private)


class Internal(Error):
    """Something went wrong on our side; the trace id finds it in our logs."""

    reason = "INTERNAL"
    code = grpc.StatusCode.INTERNAL


class Unimplemented(Error):
    """There is no such method here."""

    reason = "UNIMPLEMENTED"
    code = grpc.StatusCode.UNIMPLEMENTED


class Cancelled(Error):
    """The call was cancelled."""

    reason = "CANCELLED"
    code = grpc.StatusCode.CANCELLED


class MessageTooLarge(Error):
    """The message is larger than the server accepts."""

    reason = "MESSAGE_TOO_LARGE"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class RateLimited(Error):
    """Too many attempts; wait before the next one."""

    reason = "RATE_LIMITED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_retry_after = timedelta(seconds=1)


class NotOfferedHere(Error):
    """This deployment leaves the function to another system."""

    reason = "NOT_OFFERED_HERE"
    code = grpc.StatusCode.FAILED_PRECONDITION


# For statuses that gRPC itself or a stranger produced: no ErrorInfo of ours inside.
_nearest: dict[int, type[Error]] = {
    kind.code.value[0]: kind
    for kind in (
        Cancelled,
        Contention,
        DeadlineExceeded,
        InvalidField,
        RateLimited,
        ResourceNotFound,
        RoleRequired,
        StateConflict,
        TokenInvalid,
        Unavailable,
        Unimplemented,
    )
}


def code_of(error: BaseException) -> grpc.StatusCode:
    """The status that a caller gets when this is raised."""
    if isinstance(error, Error):
        return error.code
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED
    return grpc.StatusCode.INTERNAL
