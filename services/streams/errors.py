"""The streams service's own refusals."""

from collections.abc import Mapping
from typing import Self

import grpc

from services.chassis.errors import Error, QuotaViolation


class QuotaExceeded(Error):
    """Every stream slot of the package is taken: stop a stream or upgrade the package."""

    reason = "QUOTA_EXCEEDED"
    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """`user`: whose; `limit`: slots of the package; `active`: slots taken."""
        description = f"{metadata['active']} of {metadata['limit']} stream slots are taken"
        return cls(metadata=metadata, quota=[QuotaViolation(f"user:{metadata['user']}", description)])


class PackageMissing(Error):
    """The account holds no package: ask for one before starting a stream."""

    reason = "PACKAGE_MISSING"
    code = grpc.StatusCode.FAILED_PRECONDITION


class PackageExpired(Error):
    """The package has expired: renew it before starting a stream."""

    reason = "PACKAGE_EXPIRED"
    code = grpc.StatusCode.FAILED_PRECONDITION


class DestinationInUse(Error):
    """An active stream already pushes to this destination and key: stop it first."""

    reason = "DESTINATION_IN_USE"
    code = grpc.StatusCode.FAILED_PRECONDITION


class RevisionExpired(Error):
    """The revision is older than what is retained: watch again from 0 for a snapshot."""

    reason = "REVISION_EXPIRED"
    code = grpc.StatusCode.OUT_OF_RANGE
