"""The text of a `video_source`, before any file system is asked."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.errors import InvalidField
from services.streams.media.library import check


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4",
        "folder/a.mp4",
        "Screen Recording 2026-01-01 at 1.00.00\u202fPM.mov",
        "family 👨\u200d👩\u200d👧.mp4",
        "видео.mp4",
        "a-b.mp4",
        "..a.mp4",
        "a..mp4",
        "show/part 12:30.mp4",
        "100%.mp4",
    ],
)
def test_plain_path_is_taken_as_it_is(text: str) -> None:
    assert check(text) == text


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "is empty"),
        ("/etc/passwd", "absolute path"),
        ("//etc/passwd", "absolute path"),
        ("../other/a.mp4", "'..'"),
        ("a/../../other/a.mp4", "'..'"),
        ("a/..", "'..'"),
        ("..", "'..'"),
        (".", "empty or '.' part"),
        ("./a.mp4", "empty or '.' part"),
        ("a//b.mp4", "empty or '.' part"),
        ("a/", "empty or '.' part"),
        ("-i", "begin with '-'"),
        ("-a.mp4", "begin with '-'"),
        ("a\\..\\b.mp4", "backslash"),
        ("C:\\a.mp4", "backslash"),
        ("http://169.254.169.254/latest/meta-data/", "is a web address"),
        ("HTTPS://example.com/a.mp4", "is a web address"),
        ("http:a.mp4", "is a web address"),
        ("file:///etc/passwd", "looks like an address"),
        ("file:a.mp4", "looks like an address"),
        ("concat:a.mp4|b.mp4", "looks like an address"),
        ("concatf:list.txt", "looks like an address"),
        ("subfile,,start,0,end,9,,:a.mp4", "looks like an address"),
        ("crypto+file:a.mp4", "looks like an address"),
        ("async:cache:a.mp4", "looks like an address"),
        ("data:video/mp4;base64,AAAA", "looks like an address"),
        ("pipe:0", "looks like an address"),
        ("fd:", "looks like an address"),
        ("tcp://127.0.0.1:22", "looks like an address"),
        ("rtmp://a.example/live", "looks like an address"),
        (":a.mp4", "looks like an address"),
        ("a.mp4\x00.txt", "control characters"),
        ("a\nb.mp4", "control characters"),
        ("a\x1b[2Jb.mp4", "control characters"),
        ("a\x7f.mp4", "control characters"),
        ("a\x85.mp4", "control characters"),
        ("a\u2028b.mp4", "control characters"),
        ("a\u202e4pm.exe", "control characters"),
        ("a\udc80.mp4", "control characters"),
        ("a" * 1025, "longer than 1024"),
        ("a" * 256, "more than 255 bytes"),
        ("ф" * 128, "more than 255 bytes"),
        ("a/" * 16 + "a.mp4", "more than 16 folders deep"),
    ],
)
def test_anything_else_is_refused_with_the_remedy(text: str, remedy: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check(text)
    assert [one.field for one in caught.value.fields] == ["video_source"]
    assert remedy in caught.value.message


PIECES = st.lists(
    st.sampled_from([*"/:.-|\\ \n\x00", "..", "//", "http", "file", "concat", "a", "b.mp4", "ф", "\u202e"]),
    max_size=12,
).map("".join)


@given(st.one_of(st.text(), PIECES))
def test_any_text_stays_inside_its_folder_or_is_refused(text: str) -> None:
    try:
        path = check(text)
    except InvalidField as refusal:
        if {one.field for one in refusal.fields} == {"video_source"}:
            return
        raise
    inside = PurePosixPath("/media") / path
    assert str(inside) == f"/media/{text}"
    assert ".." not in inside.parts
    assert not text.startswith("-")
    assert ":" not in inside.parts[2]
    assert "\x00" not in text
