"""From facts to a verdict: what can be sent as it is, and what is wrong with the rest."""

from dataclasses import replace

import pytest

from services.streams.media.facts import Facts, Stream, Unreadable
from services.streams.media.probe import Audio, Probe, Video, judge

SIZE = 1_000_000
VIDEO = Stream(kind="video", codec="h264", width=1280, height=720, fps=30.0, packets=300, end=999_000)
SOUND = Stream(kind="audio", codec="aac", rate=44100, channels=2, packets=430, end=SIZE)
COVER = Stream(kind="cover", codec="mjpeg", width=600, height=600)
TIMECODE = Stream(kind="data", codec="unknown", packets=1, end=SIZE)


def facts(*streams: Stream, duration: int = 10_000_000) -> Facts:
    return Facts(duration=duration, streams=streams)


def test_video_and_sound_are_told() -> None:
    assert judge(facts(VIDEO, SOUND), size=SIZE) == Probe(
        duration=10.0,
        video=Video(codec="h264", width=1280, height=720, fps=30.0),
        audio=Audio(codec="aac", rate=44100, channels=2),
        bitrate=800_000,
    )


def test_silent_video_is_accepted_and_told_as_such() -> None:
    verdict = judge(facts(VIDEO), size=SIZE)
    assert isinstance(verdict, Probe)
    assert verdict.audio is None


def test_cover_picture_and_timecode_are_not_what_is_sent() -> None:
    alone = judge(facts(VIDEO, SOUND), size=SIZE)
    assert judge(facts(COVER, TIMECODE, VIDEO, SOUND), size=SIZE) == alone


@pytest.mark.parametrize("rate", [11025, 22050, 44100, 48000])
def test_mp3_at_a_rate_of_flv_is_accepted(rate: int) -> None:
    assert isinstance(judge(facts(VIDEO, replace(SOUND, codec="mp3", rate=rate)), size=SIZE), Probe)


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        (Unreadable.PLAYLIST, "is a playlist under another name"),
        (Unreadable.CUT, "is cut off, damaged"),
        (Unreadable.FOREIGN, "is not an MP4 or MOV video"),
        (facts(), "holds no video"),
        (facts(SOUND), "holds no video"),
        (facts(COVER, SOUND), "holds no video"),
        (facts(replace(VIDEO, codec="hevc"), SOUND), "holds video as hevc"),
        (facts(replace(VIDEO, codec="unknown"), SOUND), "encode it as H.264"),
        (facts(VIDEO, replace(SOUND, codec="opus")), "holds sound as opus"),
        (facts(VIDEO, replace(SOUND, codec="pcm_s16le")), "encode it as AAC"),
        (facts(VIDEO, replace(SOUND, codec="mp3", rate=32000)), "MP3 sound at 32000 Hz"),
        (facts(replace(VIDEO, encrypted=True), SOUND), "is encrypted"),
        (facts(VIDEO, replace(SOUND, encrypted=True)), "is encrypted"),
        (facts(VIDEO, SOUND, duration=0), "holds no frame of video"),
        (facts(replace(VIDEO, packets=0), SOUND), "holds no frame of video"),
        (facts(replace(VIDEO, width=0), SOUND), "holds no frame of video"),
        (facts(VIDEO, replace(SOUND, end=SIZE + 7)), "7 bytes at its end are missing"),
        (facts(replace(VIDEO, end=SIZE + 9), SOUND), "9 bytes at its end are missing"),
    ],
)
def test_what_cannot_be_sent_is_named_with_the_remedy(found: Facts | Unreadable, remedy: str) -> None:
    verdict = judge(found, size=SIZE)
    assert isinstance(verdict, str)
    assert remedy in verdict


def test_every_reason_for_being_unreadable_has_a_sentence() -> None:
    assert all(isinstance(judge(reason, size=SIZE), str) for reason in Unreadable)
