"""Writes small real video files with PyAV: frame number i is a plain grey, or a plain colour, that says i."""

from __future__ import annotations

from pathlib import Path

import numpy as np

STEP = 12
"""Frame i is grey 12·i: lossy codecs change a plain grey by a few units at most."""


def write_video(
    path: Path, frames: int = 10, fps: int = 5, size: tuple[int, int] = (64, 48), codec: str | None = None, gop: int | None = None
) -> Path:
    """A video of `size` (width, height) whose i-th frame is grey 12·i; the codec is the container's usual one."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    codec = codec or {".mkv": "ffv1", ".webm": "libvpx-vp9", ".avi": "mpeg4", ".mpg": "mpeg1video"}.get(path.suffix, "libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if gop is not None:
            stream.gop_size = gop
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), STEP * number, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def turn(path: Path) -> None:
    """Mark an MP4 file as filmed with the camera upright: to be shown turned by 90 degrees clockwise, as telephones do."""
    data = path.read_bytes()
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    straight = one + none * 3 + one + none * 3 + (1 << 30).to_bytes(4, "big")
    turned = none + one + none + (-(1 << 16)).to_bytes(4, "big", signed=True) + none * 4 + (1 << 30).to_bytes(4, "big")
    track = data.index(b"tkhd")
    place = data.index(straight, track)
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])


def number_of(picture: object) -> int:
    """Which frame a picture is, by its grey."""
    return round(float(np.asarray(picture).mean()) / STEP)
