"""The reasons promised in error_reason.proto are the reasons raised, with the codes promised there."""

import re
from pathlib import Path

import pytest
from google.rpc import error_details_pb2

import services.streams.errors
import services.users.errors
from services.chassis.errors import Error, catalogue, from_status
from streamax.common.v1.error_reason_pb2 import ErrorReason

_PREFIX = "ERROR_REASON_"
_PROTO = Path(__file__).parents[2] / "protos/streamax/common/v1/error_reason.proto"

#: Reason -> the status code that its comment begins with.
_PROMISED = {
    name: code
    for code, name in re.findall(
        rf"// ([A-Z_]+): [^\n]*\n(?:\s*//[^\n]*\n)*\s*{_PREFIX}([A-Z_]+) = ", _PROTO.read_text()
    )
}


def _kinds() -> dict[str, type[Error]]:
    # Tests define kinds of their own; only the product's are promised.
    assert services.users.errors
    assert services.streams.errors
    return {reason: kind for reason, kind in catalogue().items() if kind.__module__.startswith("services.")}


def test_every_promised_reason_is_raised_by_one_class_and_no_other_is() -> None:
    promised = {name.removeprefix(_PREFIX) for name, _ in ErrorReason.items()} - {"UNSPECIFIED"}
    assert set(_kinds()) == promised


@pytest.mark.parametrize("kind", _kinds().values(), ids=lambda kind: kind.reason)
def test_a_reason_comes_with_the_code_that_its_comment_promises(kind: type[Error]) -> None:
    assert _PROMISED[kind.reason] == kind.code.name


@pytest.mark.parametrize("kind", _kinds().values(), ids=lambda kind: kind.reason)
def test_every_kind_maps_to_a_rich_status_a_client_can_read(kind: type[Error]) -> None:
    status = kind().to_status()

    assert status.code == kind.code.value[0]
    assert status.message == (kind.__doc__ or "").strip().splitlines()[0]
    assert status.message.endswith(".")
    assert type(from_status(status)) is kind
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == (kind.reason, "streamax")
