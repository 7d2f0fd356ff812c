"""What the worker says is read like a stranger's words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.streams.media.facts import (
    ANSWER_MAX,
    STREAMS_MAX,
    Answer,
    Facts,
    Malformed,
    Stream,
    Unreadable,
)

VIDEO: dict[str, Any] = {"kind": "video", "codec": "h264", "width": 1920, "height": 1080, "fps": 30.0}


def message(streams: Any = (VIDEO,), duration: Any = 3, last: Any = False) -> bytes:
    return json.dumps({"of": {"duration": duration, "streams": streams}, "last": last}).encode()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(Unreadable.PLAYLIST),
        Answer(Facts(duration=0, streams=())),
        Answer(
            Facts(
                duration=3_500_000,
                streams=(
                    Stream(kind="video", codec="h264", width=2, height=2, fps=29.97, packets=9, end=1 << 33),
                    Stream(
                        kind="audio", codec="aac", rate=44100, channels=2, packets=9, end=8, encrypted=True
                    ),
                ),
            ),
            last=True,
        ),
    ],
)
def test_answer_arrives_as_it_was_sent(answer: Answer) -> None:
    assert Answer.from_message(answer.to_message()) == answer


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"ready",
        b"\xff",
        b"null",
        b"[]",
        b'{"of": "playlist"}',
        b'{"of": "other", "last": false}',
        b'{"of": null, "last": false}',
        b'{"of": "playlist", "last": 1}',
        b"[" * 30000,
        message(last="no"),
        message(duration="3"),
        message(duration=-1),
        message(duration=1e-320),
        message(duration=float("inf")),
        message(duration=True),
        message(streams=7),
        message(streams=[7]),
        message(streams=[VIDEO | {"codec": "h264; rm -rf"}]),
        message(streams=[VIDEO | {"codec": "h" * 33}]),
        message(streams=[VIDEO | {"codec": 264}]),
        message(streams=[VIDEO | {"kind": ""}]),
        message(streams=[VIDEO | {"width": -1}]),
        message(streams=[VIDEO | {"width": True}]),
        message(streams=[VIDEO | {"height": 1.5}]),
        message(streams=[VIDEO | {"fps": float("nan")}]),
        message(streams=[VIDEO | {"encrypted": 0}]),
        message(streams=[VIDEO | {"more": 1}]),
        message(streams=[{"kind": "video"}]),
    ],
)
def test_any_other_answer_is_malformed(nonsense: bytes) -> None:
    with pytest.raises(Malformed):
        Answer.from_message(nonsense)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["of", "last", "duration", "streams", *VIDEO]), inner, max_size=6)
    ),
)


@given(JSON)
def test_any_json_is_an_answer_or_malformed(record: Any) -> None:
    try:
        Answer.from_message(json.dumps(record).encode())
    except Malformed:
        return


def test_largest_answer_fits_a_message() -> None:
    widest = Stream(
        kind="a" * 32,
        codec="a" * 32,
        width=1 << 32,
        height=1 << 32,
        fps=1 / 3 * 1e9,
        rate=1 << 32,
        channels=1 << 32,
        packets=1 << 32,
        end=1 << 63,
        encrypted=True,
    )
    assert len(Answer(Facts(duration=1 << 63, streams=(widest,) * STREAMS_MAX)).to_message()) <= ANSWER_MAX
