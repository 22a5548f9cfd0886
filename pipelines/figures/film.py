"""Frames to a file: GIF by Pillow (which matplotlib brings), MP4 by ffmpeg where there is one."""

import importlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import StageFailed, UsageError

Frames = Sequence[np.ndarray[Any, np.dtype[np.uint8]]]  # each [height, width, 3]
MOST_FRAMES = 400  # in a GIF: beyond that some are left out, and time stays true
HOLD_S = 1.0  # on the last frame of a GIF, before it begins again


def thinned(num_frames: int, most: int = MOST_FRAMES) -> tuple[list[int], int]:
    """(which frames to keep, every how many): the first and the last are among them."""
    every = -(-num_frames // most)
    kept = list(range(0, num_frames, every))
    return kept + ([num_frames - 1] if kept[-1] != num_frames - 1 else []), every


def labelled(frame: np.ndarray[Any, Any], text: str) -> np.ndarray[Any, Any]:
    """The frame with a line of text at its top."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.fromarray(frame)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(11, frame.shape[0] // 24))
    draw.text((8, 6), text, "white", font, stroke_width=2, stroke_fill="black")
    return np.asarray(image)


def gif(frames: Frames, frame_s: float) -> bytes:
    """An endless GIF; viewers show no frame for less than 0.02 s."""
    from PIL import Image

    # one palette for the whole film, from frames along it, so that what stands still does not flicker
    some = [np.asarray(frames[i]) for i in np.linspace(0, len(frames) - 1, min(8, len(frames))).astype(int)]
    palette = Image.fromarray(np.concatenate(some)).quantize(255, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    images = [
        Image.fromarray(np.asarray(frame)).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames
    ]
    each = max(20, round(frame_s * 100) * 10)  # milliseconds, in hundredths of a second
    durations = [each] * (len(images) - 1) + [each + round(HOLD_S * 1000)]
    out = io.BytesIO()
    images[0].save(out, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0, optimize=False)
    return out.getvalue()


def ffmpeg() -> str:
    """The program. Raises UsageError where there is none."""
    if found := shutil.which("ffmpeg"):
        return found
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    raise UsageError("an MP4 needs ffmpeg, and there is none", "pip install imageio-ffmpeg, or name the video *.gif")


def mp4(frames: Frames, frame_s: float) -> bytes:
    """H.264 in an MP4 that any browser plays. Raises UsageError without ffmpeg, StageFailed if it fails."""
    height, width = (side - side % 2 for side in frames[0].shape[:2])  # H.264 wants even sides
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.mp4"
        command = [ffmpeg(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        command += ["-r", f"{1 / frame_s:.6g}", "-i", "-", "-an", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
        command += ["-movflags", "+faststart", str(path)]
        raw = b"".join(np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames)
        done = subprocess.run(command, input=raw, capture_output=True, check=False)
        if done.returncode or not path.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise StageFailed(f"ffmpeg failed: {said[-1]}", "name the video *.gif")
        return path.read_bytes()
