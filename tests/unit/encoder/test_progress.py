import itertools

from hypothesis import given
from hypothesis import strategies as st

from encoder.progress import Progress, ProgressReader

#: As ffmpeg 9 writes it while copying, shortened by the lines nobody reads.
BLOCK = b"""frame=48
fps=47.98
stream_0_0_q=-1.0
bitrate=2681.3kbits/s
total_size=558086
out_time_us=1536000
out_time_ms=1536000
out_time=00:00:01.536000
dup_frames=0
drop_frames=2
speed=1.54x
progress=continue
"""
READ = Progress(seconds=1.536, frames=48, dropped_frames=2)


def test_a_block_is_read() -> None:
    assert ProgressReader().feed(BLOCK) == [READ]


def test_a_block_before_the_first_packet_is_zero() -> None:
    block = b"frame=0\ntotal_size=N/A\nout_time_us=N/A\ndrop_frames=0\nprogress=continue\n"
    assert ProgressReader().feed(block) == [Progress(seconds=0.0, frames=0, dropped_frames=0)]


@given(st.lists(st.integers(0, 4 * len(BLOCK))))
def test_blocks_survive_any_tearing(cuts: list[int]) -> None:
    text = BLOCK * 4
    reader = ProgressReader()
    edges = [0, *sorted(cuts), len(text)]
    found = [one for a, b in itertools.pairwise(edges) for one in reader.feed(text[a:b])]
    assert found == [READ] * 4


@given(st.binary())
def test_garbage_does_no_harm(data: bytes) -> None:
    reader = ProgressReader()
    reader.feed(data + b"\n")
    assert reader.feed(BLOCK)[-1] == READ
