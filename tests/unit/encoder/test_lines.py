import itertools

from hypothesis import given
from hypothesis import strategies as st

from encoder.lines import BUFFER, LONGEST, SCRUBBED, FloodGuard, LineReader

KEY = "canary-key"
pieces = st.lists(st.sampled_from([KEY, "\n", "[error] ", "x" * 700, "é", "rtmp://host/live/"]))


@given(pieces, st.lists(st.integers(0, 20_000)))
def test_the_key_is_in_no_line_however_it_is_torn(words: list[str], cuts: list[int]) -> None:
    data = "".join(words).encode()
    reader = LineReader(KEY)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = [one for a, b in itertools.pairwise(edges) for one in reader.feed(data[a:b])]
    lines += reader.end()
    assert not [line for line in lines if KEY in line]
    # No cut at the length limit leaves a part of it either.
    assert not [line for line in lines if line.endswith((KEY[:-1], KEY[:5]))]


def test_lines_come_whole_and_scrubbed() -> None:
    reader = LineReader(KEY)
    assert reader.feed(b"Publishing to '" + KEY.encode()[:4]) == []
    assert reader.feed(KEY.encode()[4:] + b"'\r\n\nnext") == [f"Publishing to '{SCRUBBED}'"]
    assert reader.end() == ["next"]


def test_a_line_without_end_is_cut_and_its_rest_dropped() -> None:
    reader = LineReader(KEY)
    lines = []
    for _ in range(10):
        lines += reader.feed(b"x" * (BUFFER // 2))
    lines += reader.feed(KEY.encode() + b"\nafter\n")
    assert lines == ["x" * LONGEST, "after"]


def test_bytes_that_are_no_text_are_a_line() -> None:
    assert LineReader(KEY).feed(b"\xff\xfe\n") == ["\ufffd\ufffd"]


def test_a_burst_passes_and_a_flood_does_not() -> None:
    guard = FloodGuard(burst=3, per_second=1)
    passed = [line for _ in range(1000) for line in guard.admit(0.0, "x")]
    assert passed == ["x"] * 3
    assert guard.admit(1.0, "y") == ["(997 lines left out)", "y"]
    assert guard.admit(2.0, "z") == ["z"]


@given(st.lists(st.floats(0, 10), min_size=1))
def test_a_flood_is_bounded_by_its_rate(gaps: list[float]) -> None:
    guard = FloodGuard(burst=10, per_second=2)
    now, passed = 0.0, 0
    for gap in gaps:
        now += gap
        passed += bool(guard.admit(now, "x"))
    assert passed <= 10 + 2 * now + 1
