"""ffmpeg's argument list. Nothing here runs anything."""

from typing import Final

from encoder.job import FORMAT_WHITELIST, Job

#: Media time is told this often, seconds. It is also how late `delivered_seconds` may be.
PROGRESS_PERIOD: Final = 0.5

#: The supervisor is the one who loses patience: it can tell a stall from a slow
#: peer, and it acts on time (ffmpeg's own timeout took 41 s for 10 s: write,
#: trailer and close each wait). This only backs it up.
TIMEOUT_SLACK: Final = 10.0


def arguments(job: Job, *, ffmpeg: str, progress_fd: int, ca_file: str | None = None) -> list[str]:
    """argv for one attempt. Holds the stream key: for exec, never for a log.

    `ca_file` is the bundle that an rtmps server's certificate is verified
    against. This ffmpeg carries none of its own and refuses every server without.
    """
    return [
        *(ffmpeg, "-hide_banner", "-nostdin", "-nostats"),
        # The debug lines tell how far the RTMP conversation came, which is what
        # tells a rejected key from a refused connection: both exit with 251.
        *("-loglevel", "level+debug"),
        *("-progress", f"pipe:{progress_fd}", "-stats_period", str(PROGRESS_PERIOD)),
        *_source(job),
        *("-map", "0:V:0", "-map", "0:a:0?", "-c", "copy"),
        *_destination(job, ca_file),
    ]


def _source(job: Job) -> list[str]:
    return [
        # Both: the named demuxer is the one used, and the whitelist holds for whatever it might open.
        *("-protocol_whitelist", "file", "-format_whitelist", FORMAT_WHITELIST, "-f", "mov"),
        *("-re", "-stream_loop", "-1", "-i", f"file:{job.source}"),
    ]


def _destination(job: Job, ca_file: str | None) -> list[str]:
    timeout = max(job.limits.give_up, job.limits.connect) + TIMEOUT_SLACK
    secure = job.destination.startswith("rtmps://")
    tls = ["-tls_verify", "1", *(("-ca_file", ca_file) if ca_file else ())] if secure else []
    return [
        *("-protocol_whitelist", "rtmps,tls,tcp" if secure else "rtmp,tcp", *tls),
        *("-rw_timeout", str(round(timeout * 1_000_000))),
        # Some ingests take a duration of 0 in the header for a broken file.
        *("-flvflags", "no_duration_filesize"),
        # With the key in the URL, ffmpeg prints it in its errors. With only a
        # playpath, it takes the last of two path parts for a name: say the app, too.
        *("-rtmp_app", application(job.destination), "-rtmp_playpath", job.stream_key),
        *("-f", "flv", job.destination),
    ]


def application(destination: str) -> str:
    """The app of rtmp(s)://host[:port]/app, which may have several parts and a query."""
    _, _, path = destination.partition("://")[2].partition("/")
    return path.rstrip("/")
