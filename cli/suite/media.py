"""The embedded ffmpeg, and a video made with it."""

import asyncio
from pathlib import Path

import imageio_ffmpeg


class SampleFailed(Exception):
    """ffmpeg could not make the sample; the text is its own."""


def ffmpeg() -> str:
    """Path of the ffmpeg that comes with the Python packages."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def ffmpeg_version() -> str:
    return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"


async def make_sample(path: Path, *, seconds: int = 30, size: str = "640x360") -> Path:
    """An H.264/AAC file of about 1.9 Mbit/s; 30 s of it take 0.7 s on two cores. Raises SampleFailed."""
    video = ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate=25"]
    audio = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"]
    # A key frame every two seconds, as ingests ask for.
    encode = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    encode += ["-g", "50", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart"]
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y"),
        *(*video, *audio, "-t", str(seconds), *encode, str(path)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        raise SampleFailed(complaint.decode(errors="replace").strip())
    return path
