import pytest

from encoder.command import application, arguments
from encoder.job import Job, Limits

KEY = "abcd-efgh"


def job(destination: str = "rtmp://ingest.example/live2") -> Job:
    return Job(
        session_id="s",
        generation=1,
        source="/media/-odd name.mp4",
        destination=destination,
        stream_key=KEY,
        limits=Limits(give_up=20, connect=15),
    )


def test_the_whole_command() -> None:
    assert arguments(job(), ffmpeg="/bin/ffmpeg", progress_fd=7, ca_file="/ca.pem") == [
        *("/bin/ffmpeg", "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+debug"),
        *("-progress", "pipe:7", "-stats_period", "0.5"),
        *("-protocol_whitelist", "file", "-format_whitelist", "mov,mp4,m4a,3gp,3g2,mj2", "-f", "mov"),
        *("-re", "-stream_loop", "-1", "-i", "file:/media/-odd name.mp4"),
        *("-map", "0:V:0", "-map", "0:a:0?", "-c", "copy"),
        *("-protocol_whitelist", "rtmp,tcp", "-rw_timeout", "30000000"),
        *("-flvflags", "no_duration_filesize", "-rtmp_app", "live2", "-rtmp_playpath", KEY),
        *("-f", "flv", "rtmp://ingest.example/live2"),
    ]


def test_rtmps_is_verified_against_the_bundle() -> None:
    argv = arguments(job("rtmps://ingest.example:443/live2"), ffmpeg="f", progress_fd=3, ca_file="/ca.pem")
    assert argv[argv.index("-tls_verify") + 1] == "1"
    assert argv[argv.index("-ca_file") + 1] == "/ca.pem"
    assert "rtmps,tls,tcp" in argv


def test_rtmps_is_verified_where_there_is_no_bundle() -> None:
    argv = arguments(job("rtmps://ingest.example/live2"), ffmpeg="f", progress_fd=3)
    assert argv[argv.index("-tls_verify") + 1] == "1"
    assert "-ca_file" not in argv


def test_the_key_is_one_argument_and_in_no_address() -> None:
    argv = arguments(job(), ffmpeg="f", progress_fd=3)
    assert [one for one in argv if KEY in one] == [KEY]
    assert argv[argv.index(KEY) - 1] == "-rtmp_playpath"


@pytest.mark.parametrize(
    ("destination", "app"),
    [
        ("rtmp://host/live", "live"),
        ("rtmp://host:1935/live/", "live"),
        ("rtmp://[::1]:1935/live", "live"),
        ("rtmps://host/app/instance", "app/instance"),
        ("rtmp://host/live?token=1", "live?token=1"),
        ("rtmp://host", ""),
    ],
)
def test_the_application_is_the_whole_path(destination: str, app: str) -> None:
    assert application(destination) == app
