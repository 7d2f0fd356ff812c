"""Real files, a real worker, and whatever can go wrong with either."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import uvloop

from services.chassis.clock import SystemClock
from services.chassis.errors import InvalidField, Unavailable
from services.streams.media import examiner
from services.streams.media.library import Library, MediaFile
from services.streams.media.probe import Audio, Limits, Prober, Video
from tests.integration.media.conftest import OWNER, STRANGER

Put = Callable[..., MediaFile]
Convert = Callable[..., Path]

COPY = ("-c", "copy")


class Ahead(SystemClock):
    """The system's clock, so many seconds ahead."""

    seconds = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.seconds


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with Prober() as prober:
        yield prober


async def refusal(prober: Prober, media: MediaFile) -> str:
    with pytest.raises(InvalidField) as caught:
        await prober.probe(media)
    assert [one.field for one in caught.value.fields] == ["video_source"]
    return caught.value.message


def worker() -> psutil.Process:
    """The one worker of this process."""
    (found,) = (
        one
        for one in psutil.Process().children()
        if one.status() != psutil.STATUS_ZOMBIE and "services.streams.media.worker" in one.cmdline()
    )
    return found


async def settled() -> None:
    """Lets all that is ready run until it waits for the worker; handing over a file takes no waiting."""
    for _ in range(20):
        await asyncio.sleep(0)


@contextmanager
def frozen() -> Iterator[psutil.Process]:
    """The worker, stopped, so that a file stays with it."""
    process = worker()
    process.suspend()
    try:
        yield process
    finally:
        if process.is_running():
            process.resume()


async def test_mp4_and_mov_are_told_in_full(prober: Prober, put: Put, convert: Convert) -> None:
    for name in ("plain.mp4", "plain.mov"):
        media = put(convert(name, *COPY), name)
        found = await prober.probe(media)
        assert found.duration == pytest.approx(2.0, abs=0.05)
        assert found.video == Video(codec="h264", width=320, height=180, fps=30.0)
        assert found.audio == Audio(codec="aac", rate=44100, channels=1)
        assert found.bitrate == pytest.approx(media.size * 8 / found.duration, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("faststart.mp4", (*COPY, "-movflags", "+faststart")),
        ("fragmented.mp4", (*COPY, "-movflags", "+frag_keyframe+empty_moov")),
        ("mp3.mp4", ("-c:v", "copy", "-c:a", "libmp3lame")),
        ("timecode.mov", (*COPY, "-timecode", "00:00:00:00")),
        ("silent.mp4", (*COPY, "-an")),
    ],
)
async def test_what_ffmpeg_can_copy_is_accepted(
    prober: Prober, put: Put, convert: Convert, name: str, arguments: tuple[str, ...]
) -> None:
    found = await prober.probe(put(convert(name, *arguments)))
    assert found.duration == pytest.approx(2.0, abs=0.1)
    assert (found.audio is None) == (name == "silent.mp4")


@pytest.mark.parametrize(
    ("name", "arguments", "remedy"),
    [
        ("hevc.mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-c:a", "copy"), "holds video as hevc"),
        ("mpeg4.mp4", ("-c:v", "mpeg4", "-c:a", "copy"), "holds video as mpeg4"),
        ("opus.mp4", ("-c:v", "copy", "-c:a", "libopus"), "holds sound as opus"),
        ("mp3_32000.mp4", ("-c:v", "copy", "-c:a", "libmp3lame", "-ar", "32000"), "MP3 sound at 32000 Hz"),
        ("sound.m4a", (*COPY, "-vn"), "holds no video"),
        ("film.mkv", COPY, "is not an MP4 or MOV video"),
        ("film.flv", COPY, "is not an MP4 or MOV video"),
        ("film.ts", COPY, "is not an MP4 or MOV video"),
        (
            "encrypted.mp4",
            (
                *COPY,
                "-encryption_scheme",
                "cenc-aes-ctr",
                "-encryption_key",
                "0" * 32,
                "-encryption_kid",
                "1" * 32,
            ),
            "is encrypted",
        ),
    ],
)
async def test_what_cannot_be_copied_is_refused_by_name(
    prober: Prober, put: Put, convert: Convert, name: str, arguments: tuple[str, ...], remedy: str
) -> None:
    assert remedy in await refusal(prober, put(convert(name, *arguments)))


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:2,\nhttp://169.254.169.254/latest/meta-data/\n",
        "\n  #EXTM3U\n{other}\n",
        "\ufeff#EXTM3U\n{other}\n",
        "ffconcat version 1.0\nfile '{other}'\n",
        "ffconcat version 1.0\nfile neighbour.mp4\n",
    ],
)
async def test_playlist_disguised_as_mp4_is_refused(
    prober: Prober, put: Put, library: Library, convert: Convert, text: str
) -> None:
    other = library.folder(STRANGER) / "other.mp4"
    for path in (other, library.folder(OWNER) / "neighbour.mp4"):
        path.write_bytes(convert("plain.mp4").read_bytes())
    assert "is a playlist" in await refusal(prober, put(text.format(other=other).encode()))


@pytest.mark.parametrize(
    "content",
    [
        b"not a video",
        b"\x00" * 4096,
        random.Random(7).randbytes(4096),
        b"<?xml version='1.0'?><MPD></MPD>",
        b"\x00",
    ],
    ids=["text", "zeros", "noise", "dash", "one byte"],
)
async def test_what_is_no_video_is_refused(prober: Prober, put: Put, content: bytes) -> None:
    assert "is not an MP4 or MOV video" in await refusal(prober, put(content))


async def test_cut_off_file_is_refused_wherever_its_index_is(
    prober: Prober, put: Put, convert: Convert
) -> None:
    plain = convert("plain.mp4").read_bytes()
    fast = convert("faststart.mp4", *COPY, "-movflags", "+faststart").read_bytes()
    assert "is cut off, damaged" in await refusal(prober, put(plain[: len(plain) // 2], "index_last.mp4"))
    assert "is cut off, damaged" in await refusal(prober, put(plain[:40], "head_only.mp4"))
    message = await refusal(prober, put(fast[: len(fast) // 2], "index_first.mp4"))
    assert "bytes at its end are missing" in message


async def test_file_without_duration_is_refused(prober: Prober, put: Put, convert: Convert) -> None:
    fragmented = convert("fragmented.mp4", *COPY, "-movflags", "+frag_keyframe+empty_moov").read_bytes()
    header = fragmented[: fragmented.index(b"moof") - 4]
    assert "holds no frame of video" in await refusal(prober, put(header))


async def test_damaged_files_never_cost_the_next_one(prober: Prober, put: Put, convert: Convert) -> None:
    """A hundred files with bytes of the header changed at random: each has a verdict."""
    fast = convert("faststart.mp4", *COPY, "-movflags", "+faststart").read_bytes()
    header = fast.index(b"mdat")
    dice = random.Random(20)
    refused = 0
    for turn in range(100):
        damaged = bytearray(fast)
        for _ in range(dice.randint(1, 20)):
            damaged[dice.randrange(header)] = dice.choice([0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)])
        try:
            await prober.probe(put(bytes(damaged), f"{turn}.mp4"))
        except InvalidField:
            refused += 1
    assert 0 < refused < 100
    assert (await prober.probe(put(fast))).audio is not None


async def test_known_verdict_needs_no_worker(prober: Prober, put: Put, convert: Convert) -> None:
    good = put(convert("plain.mp4"), "good.mp4")
    bad = put(b"not a video", "bad.mp4")
    found = await prober.probe(good)
    said = await refusal(prober, bad)
    with frozen():
        assert await prober.probe(good) == found
        assert await refusal(prober, bad) == said


async def test_file_that_changed_is_looked_at_again(prober: Prober, put: Put, convert: Convert) -> None:
    plain = convert("plain.mp4")
    await prober.probe(put(plain))
    noise = random.Random(3).randbytes(plain.stat().st_size)
    assert "is not an MP4" in await refusal(prober, put(noise))
    assert (await prober.probe(put(plain))).video.codec == "h264"


async def test_verdicts_are_forgotten_least_recently_used_first(put: Put, convert: Convert) -> None:
    one, two, three = (put(convert("plain.mp4"), f"{name}.mp4") for name in ("one", "two", "three"))
    async with Prober(limits=Limits(verdicts=2, patience=1.0)) as prober:
        for media in (one, two, one, three):
            await prober.probe(media)
        with frozen():
            await prober.probe(one)
            await prober.probe(three)
            assert "could not be examined" in await refusal(prober, two)


async def test_file_swapped_after_it_was_found_is_not_read(
    prober: Prober, put: Put, convert: Convert
) -> None:
    found = put(convert("plain.mp4"))
    (found.folder / "new").write_bytes(convert("plain.mp4").read_bytes())
    (found.folder / "new").replace(found.folder / found.path)
    assert "was changed in this moment" in await refusal(prober, found)


async def test_worker_that_takes_too_long_is_replaced(put: Put, convert: Convert) -> None:
    async with Prober(limits=Limits(patience=1.0)) as prober:
        await prober.probe(put(convert("plain.mp4")))
        with frozen() as stuck:
            assert "could not be examined" in await refusal(prober, put(convert("plain.mp4"), "slow.mp4"))
            assert not stuck.is_running()
        await prober.probe(put(convert("plain.mp4"), "next.mp4"))


async def test_worker_killed_on_a_file_costs_that_file_only(
    prober: Prober, put: Put, convert: Convert
) -> None:
    await prober.probe(put(convert("plain.mp4")))
    with frozen() as process:
        asked = asyncio.create_task(refusal(prober, put(convert("plain.mp4"), "deadly.mp4")))
        waiting = asyncio.create_task(prober.probe(put(convert("plain.mp4"), "next.mp4")))
        await settled()
        process.kill()
        assert "could not be examined" in await asked
    assert (await waiting).video.codec == "h264"


async def test_file_that_broke_a_worker_is_tried_again_after_a_while(put: Put, convert: Convert) -> None:
    clock = Ahead()
    media = put(convert("plain.mp4"))
    async with Prober(limits=Limits(patience=1.0, quarantine=60.0), clock=clock) as prober:
        await prober.probe(put(convert("plain.mp4"), "other.mp4"))
        with frozen():
            await refusal(prober, media)
        clock.seconds += 59.0
        assert "could not be examined" in await refusal(prober, media)
        clock.seconds += 2.0
        assert (await prober.probe(media)).video.codec == "h264"


async def test_worker_that_died_idle_costs_no_file(prober: Prober, put: Put, convert: Convert) -> None:
    await prober.probe(put(convert("plain.mp4")))
    process = worker()
    process.kill()
    process.wait(5)
    assert (await prober.probe(put(convert("plain.mp4"), "next.mp4"))).video.codec == "h264"


async def test_two_hundred_callers_share_one_look(put: Put, convert: Convert) -> None:
    async with Prober(limits=Limits(queue=1)) as prober:
        await prober.probe(put(convert("plain.mp4")))
        media = put(convert("plain.mp4"), "popular.mp4")
        with frozen():
            asked = [asyncio.create_task(prober.probe(media)) for _ in range(200)]
            await settled()
        assert len(set(await asyncio.gather(*asked))) == 1


async def test_more_files_than_may_wait_are_told_to_come_back(put: Put, convert: Convert) -> None:
    async with Prober(limits=Limits(queue=2)) as prober:
        await prober.probe(put(convert("plain.mp4")))
        with frozen():
            asked = [
                asyncio.create_task(prober.probe(put(convert("plain.mp4"), f"{name}.mp4"))) for name in "ab"
            ]
            await settled()
            with pytest.raises(Unavailable) as caught:
                await prober.probe(put(convert("plain.mp4"), "c.mp4"))
            assert caught.value.retry_after
        await asyncio.gather(*asked)
        await prober.probe(put(convert("plain.mp4"), "c.mp4"))


async def test_caller_that_goes_away_leaves_the_look_to_the_others(
    prober: Prober, put: Put, convert: Convert
) -> None:
    await prober.probe(put(convert("plain.mp4")))
    media = put(convert("plain.mp4"), "shared.mp4")
    with frozen():
        first, second = (asyncio.create_task(prober.probe(media)) for _ in range(2))
        await settled()
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
    assert (await second).video.codec == "h264"


@pytest.mark.timeout(10)
async def test_closing_ends_the_worker_in_the_middle_of_a_file(put: Put, convert: Convert) -> None:
    async with Prober() as prober:
        await prober.probe(put(convert("plain.mp4")))
        process = worker()
        process.suspend()
        asked = asyncio.create_task(prober.probe(put(convert("plain.mp4"), "never.mp4")))
        await settled()
    assert not process.is_running()
    await asyncio.wait([asked])
    assert asked.cancelled()
    assert not psutil.Process().children()


async def test_nothing_stays_open(prober: Prober, put: Put, convert: Convert) -> None:
    await prober.probe(put(convert("plain.mp4")))
    before = len(os.listdir("/proc/self/fd"))
    await prober.probe(put(convert("plain.mp4"), "next.mp4"))
    await refusal(prober, put(b"not a video", "bad.mp4"))
    with frozen() as process:
        asked = asyncio.create_task(refusal(prober, put(convert("plain.mp4"), "deadly.mp4")))
        await settled()
        process.kill()
        await asked
    await prober.probe(put(convert("plain.mp4"), "last.mp4"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.timeout(10)
async def test_closing_at_once_leaves_no_worker_behind() -> None:
    async with Prober():
        await asyncio.sleep(0)
    assert not psutil.Process().children()


async def test_worker_ends_with_its_service(put: Put, convert: Convert) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import asyncio, psutil\n"
        "from services.streams.media.examiner import Examiner\n"
        "async def main():\n"
        "    examiner = Examiner(patience=9, start=30)\n"
        "    await examiner._ready()\n"
        "    print(psutil.Process().children()[0].pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n",
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdout is not None
    process = psutil.Process(int(await service.stdout.readline()))
    service.send_signal(signal.SIGKILL)
    await service.wait()
    await asyncio.to_thread(psutil.wait_procs, [process], 5)
    assert not process.is_running()


async def test_worker_hears_no_key_of_the_terminal(prober: Prober, put: Put, convert: Convert) -> None:
    await prober.probe(put(convert("plain.mp4")))
    assert os.getsid(worker().pid) != os.getsid(0)


SPENT = "from services.streams.media import worker; worker.CPU_SHARE = 0; worker.main()"
MUTE = "raise SystemExit(1)"
STUCK = "import time; time.sleep(60)"
LIAR = """
import socket
channel = socket.socket(fileno=0)
channel.send(b"ready")
socket.recv_fds(channel, 1, 1)
channel.send(b'{"of": {"duration": 1, "streams": "many"}, "last": false}')
channel.recv(1)
"""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`played(program)`: workers started from now on are that program."""

    def play(program: str) -> None:
        monkeypatch.setattr(examiner, "_COMMAND", (sys.executable, "-P", "-s", "-c", program))

    return play


async def test_worker_that_has_used_its_share_of_time_is_followed_by_another(
    put: Put, convert: Convert, played: Callable[[str], None]
) -> None:
    played(SPENT)
    async with Prober() as prober:
        for name in "abc":
            await prober.probe(put(convert("plain.mp4"), f"{name}.mp4"))


async def test_worker_that_talks_nonsense_is_replaced(
    put: Put, convert: Convert, played: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    played(LIAR)
    async with Prober() as prober:
        asked = asyncio.create_task(refusal(prober, put(convert("plain.mp4"))))
        await settled()
        monkeypatch.undo()
        assert "could not be examined" in await asked
        assert (await prober.probe(put(convert("plain.mp4"), "next.mp4"))).video.codec == "h264"


@pytest.mark.parametrize("program", [MUTE, STUCK])
async def test_worker_that_does_not_start_is_unavailable_until_one_does(
    put: Put, convert: Convert, played: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    played(program)
    async with Prober(limits=Limits(start=0.5 if program == STUCK else 30.0)) as prober:
        with pytest.raises(Unavailable) as caught:
            await prober.probe(put(convert("plain.mp4")))
        assert caught.value.metadata == {"dependency": "media worker"}
        monkeypatch.undo()
        await asyncio.wait_for(_until_probed(prober, put(convert("plain.mp4"))), 30)


async def _until_probed(prober: Prober, media: MediaFile) -> None:
    """With a start limit of half a second the first try may be too early on a busy machine."""
    while True:
        try:
            await prober.probe(media)
        except Unavailable:
            continue
        return


def test_uvloop_serves_as_well(put: Put, convert: Convert) -> None:
    media, late = put(convert("plain.mp4")), put(convert("plain.mp4"), "late.mp4")

    async def main() -> None:
        async with Prober(limits=Limits(patience=1.0)) as prober:
            assert (await prober.probe(media)).video.codec == "h264"
            with frozen():
                await refusal(prober, late)
        assert not psutil.Process().children()

    uvloop.run(main())
