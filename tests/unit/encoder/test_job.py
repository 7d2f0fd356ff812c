import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.job import InvalidJob, Job, Limits

JOB = Job(
    session_id="s-1",
    generation=3,
    source="/media/a b.mp4",
    destination="rtmp://ingest.example/live2",
    stream_key="k-e-y",
    limits=Limits(stall=2.5, barren_attempts=9),
)


def record(**changes: object) -> str:
    return json.dumps({**json.loads(JOB.to_json()), **changes})


def test_a_job_survives_its_own_json() -> None:
    assert Job.from_json(JOB.to_json()) == JOB


def test_a_job_is_one_line() -> None:
    assert "\n" not in JOB.to_json()


def test_the_key_is_not_in_what_python_prints_of_a_job() -> None:
    assert "k-e-y" not in f"{JOB!r} {JOB}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "version"),
        ({"colour": 1}, "colour"),
        ({"limits": {"patience": 1}}, "patience"),
        ({"limits": [1]}, "limits"),
        ({"limits": {"stall": -1}}, "limits.stall"),
        ({"limits": {"stall": "8"}}, "limits.stall"),
        ({"limits": {"roll": float("inf")}}, "limits.roll"),
        ({"source": "media.mp4"}, "source"),
        ({"source": ""}, "source"),
        ({"source": "/a\n/b"}, "source"),
        ({"destination": "http://ingest.example/live2"}, "destination"),
        ({"destination": "-f"}, "destination"),
        ({"stream_key": ""}, "stream_key"),
        ({"stream_key": "k\0"}, "stream_key"),
        ({"stream_key": 5}, "stream_key"),
        ({"generation": "1"}, "generation"),
    ],
)
def test_a_job_of_the_wrong_form_is_refused_by_field(changes: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidJob, match=told):
        Job.from_json(record(**changes))


def test_a_job_that_lacks_a_field_is_refused() -> None:
    with pytest.raises(InvalidJob, match="lacks"):
        Job.from_json('{"version": 1, "session_id": "s"}')


@given(st.text())
def test_no_refusal_quotes_the_text(text: str) -> None:
    secret = "canary" + text
    with pytest.raises(InvalidJob) as refusal:
        Job.from_json(secret)
    assert "canary" not in str(refusal.value)
    assert refusal.value.__cause__ is None
