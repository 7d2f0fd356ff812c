"""From what the reconciler orders to the job an encoder is given."""

from pathlib import PurePosixPath

from encoder.job import Job
from services.streams.runtime import Launch, LaunchRefused

__all__ = ["job_of"]


def job_of(order: Launch, media: str) -> Job:
    """`media` is where the encoder sees the owner's media folder. Raises LaunchRefused.

    Whoever made the order has checked the path already; this is the last door,
    and the one where a mistake would show one user the files of another.
    """
    source = PurePosixPath(order.source)
    if source.is_absolute() or ".." in source.parts or not source.parts:
        raise LaunchRefused("source: not a path inside the media folder")
    return Job(
        session_id=str(order.session_id),
        generation=order.generation,
        source=str(PurePosixPath(media) / source),
        destination=order.destination,
        stream_key=order.stream_key,
        limits=order.limits,
    )
