"""The catalogue: defining, packing small, and reading back."""

from datetime import timedelta

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.chassis.errors import (
    Contention,
    Error,
    FieldViolation,
    Internal,
    InvalidField,
    QuotaViolation,
    RateLimited,
    Resource,
    ResourceNotFound,
    Unavailable,
    catalogue,
    from_status,
    refusal,
)


def test_defining_a_kind_puts_it_into_the_catalogue() -> None:
    class TestOnlyKind(Error):
        """For this test."""

        reason = "TEST_ONLY_KIND"
        code = grpc.StatusCode.ABORTED

    assert catalogue()["TEST_ONLY_KIND"] is TestOnlyKind
    assert TestOnlyKind().message == "For this test."


def test_two_kinds_cannot_claim_one_reason() -> None:
    with pytest.raises(TypeError, match="both claim the reason INTERNAL"):

        class Usurper(Error):
            """Never made."""

            reason = "INTERNAL"
            code = grpc.StatusCode.INTERNAL


def test_a_subclass_that_names_no_reason_shares_its_parents() -> None:
    class Special(Internal):
        """A special case."""

    assert catalogue()["INTERNAL"] is Internal
    assert Special().reason == "INTERNAL"


def test_everything_public_survives_the_wire() -> None:
    sent = InvalidField(
        "Two things are wrong.",
        metadata={"a": "1"},
        fields=[FieldViolation("x", "too long")],
        quota=[QuotaViolation("user:1", "3 of 3")],
        retry_after=timedelta(seconds=7),
        resource=Resource("Session", "s"),
        private="never",
    )
    received = from_status(status_pb2.Status.FromString(sent.to_status().SerializeToString()))
    assert type(received) is InvalidField
    assert (received.message, received.metadata, received.fields, received.quota) == (
        sent.message,
        sent.metadata,
        sent.fields,
        sent.quota,
    )
    assert (received.retry_after, received.resource) == (timedelta(seconds=7), Resource("Session", "s"))
    assert received.private == ""


def test_a_status_stays_small_whatever_is_put_into_it() -> None:
    error = InvalidField(
        "m" * 10_000,
        metadata={f"key{number}": "v" * 1000 for number in range(5)},
        fields=[FieldViolation("f" * 1000, "d" * 1000) for _ in range(1000)],
        quota=[QuotaViolation("s" * 1000, "d" * 1000) for _ in range(1000)],
    )
    assert error.to_status().ByteSize() <= 4096


def test_as_many_details_are_kept_as_fit() -> None:
    error = InvalidField(fields=[FieldViolation(f"field{number}", "x" * 50) for number in range(100)])
    kept = from_status(error.to_status()).fields
    assert 40 < len(kept) < 100
    assert kept[0].field == "field0"


def test_retry_after_has_a_default_where_retrying_makes_sense() -> None:
    assert Unavailable().retry_after == timedelta(seconds=1)
    assert Contention().retry_after == timedelta(milliseconds=100)
    assert InvalidField().retry_after is None
    assert Unavailable(retry_after=timedelta(seconds=9)).retry_after == timedelta(seconds=9)


def test_sql_names_a_reason_and_gets_its_kind() -> None:
    error = refusal("RESOURCE_NOT_FOUND", {"type": "Session", "name": "s1"})
    assert isinstance(error, ResourceNotFound)
    assert error.resource == Resource("Session", "s1")
    field = refusal("INVALID_FIELD", {"field": "email", "description": "is taken"})
    assert field.fields == (FieldViolation("email", "is taken"),)


def test_a_reason_that_sql_invented_is_our_own_fault_and_said_in_private() -> None:
    error = refusal("NO_SUCH_REASON", {"a": "b"})
    assert isinstance(error, Internal)
    assert "NO_SUCH_REASON" in error.private
    assert "NO_SUCH_REASON" not in error.message


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (code_pb2.UNAVAILABLE, Unavailable),
        (code_pb2.RESOURCE_EXHAUSTED, RateLimited),
        (code_pb2.NOT_FOUND, ResourceNotFound),
        (code_pb2.DATA_LOSS, Internal),
    ],
)
def test_a_strangers_status_becomes_the_nearest_kind(code: int, kind: type[Error]) -> None:
    error = from_status(status_pb2.Status(code=code, message="as they said"))
    assert type(error) is kind
    assert error.message == "as they said"


def test_a_reason_of_another_domain_is_not_taken_for_ours() -> None:
    status = Internal().to_status()
    status.code = code_pb2.UNAVAILABLE
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain="elsewhere.example")
    status.details[0].Pack(info)
    assert type(from_status(status)) is Unavailable
