"""What a run of the load generator is believed, and when it is not."""

import pytest

from benchmarks.stage.load import LoadFailed, framed, read

SUMMARY = """\
starting benchmark...
finished in 4.00s, {rate:.2f} req/s, 600.43KB/s
requests: {total} total, {total} started, {good} done, {good} succeeded, {failed} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 1.51MB (1586534) total, 14.50KB (14853) headers (space savings 96.22%), 1.30MB ({data}) data
                     min         max         mean         sd        +/- sd
time for request:     4.05ms    948.68ms     27.98ms     42.03ms    94.87%
"""
ANSWER = 281


def summary(*, good: int = 1000, failed: int = 0, data: int | None = None) -> str:
    return SUMMARY.format(
        rate=good / 4,
        total=good + failed,
        good=good,
        failed=failed,
        data=good * ANSWER if data is None else data,
    )


def log(count: int = 1000) -> str:
    return "".join(f"{1795349583367621 + n}\t200\t{n * 1000}\n" for n in range(1, count + 1))


def test_run_of_right_answers() -> None:
    run = read(summary(), log(), answer=ANSWER)
    assert (run.requests, run.per_second, run.p50, run.p99) == (1000, 250.0, 500.0, 990.0)


def test_answers_cut_off_by_the_end_are_no_failure() -> None:
    assert read(summary(data=1000 * ANSWER + 20 * ANSWER + 5), log(), answer=ANSWER).requests == 1000


def test_refusals_are_noticed_though_they_are_200_in_http() -> None:
    # A refused call has no body.
    with pytest.raises(LoadFailed, match="bytes of answers"):
        read(summary(data=900 * ANSWER), log(), answer=ANSWER)


def test_other_answers_are_noticed() -> None:
    with pytest.raises(LoadFailed, match="bytes of answers"):
        read(summary(data=1000 * (ANSWER + 40)), log(), answer=ANSWER)


def test_failed_requests_are_noticed() -> None:
    with pytest.raises(LoadFailed):
        read(summary(failed=1), log(), answer=ANSWER)


def test_run_without_any_answer_is_none() -> None:
    with pytest.raises(LoadFailed):
        read(summary(good=0), "", answer=ANSWER)


def test_output_of_another_program_is_shown() -> None:
    with pytest.raises(LoadFailed, match="command not found"):
        read("h2load: command not found", "", answer=ANSWER)


def test_message_is_framed_as_grpc_does() -> None:
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"
