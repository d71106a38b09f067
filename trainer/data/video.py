"""Frames of video files as pictures; the folder that a video lies in is its label. It needs PyAV, the extra ``video``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.data.names import UnreadableFile
from trainer.errors import TrainingError

ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp")


class VideoFrames:
    """Frames of the videos ``root/CLASS/*.mp4``, as many of each video, evenly spaced over it.

    A sample is a frame, a PIL image like those of `image_folder`; with ``clip`` it is all frames of a video, float32
    (frames, 3, height, width) in [0, 1]. Frames of one video are much alike: give the validation set a folder of its own, or use
    ``clip``, rather than ``data.valid_fraction``, which would put frames of the same video into both.

    Args:
        root: the folder that holds the classes' folders.
        frames_per_video: frames taken from each; where a video has fewer, some are taken again.
        size: [height, width], or one number for both; left out: as the video has it.
        clip: a sample is a whole video's frames.
    """

    def __init__(self, root: str, frames_per_video: int = 16, size: int | Sequence[int] | None = None, clip: bool = False) -> None:
        _av()
        if frames_per_video < 1:
            raise TrainingError(f"video_frames: frames_per_video {frames_per_video} must be at least 1")
        self.size = _size(size)
        self.frames_per_video = frames_per_video
        self.clip = clip
        self.classes, self.videos = _find(Path(root))
        each = 1 if clip else frames_per_video
        self.samples = [video for video in self.videos for _ in range(each)]
        self.targets = [label for _, label in self.samples]
        self._times: dict[str, NDArray[np.int64] | int] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """A frame, or a clip, and its class.

        Raises:
            UnreadableFile: names the file.
        """
        path, label = self.samples[index]
        if self.clip:
            frames = [np.asarray(frame) for frame in self._frames(path, range(self.frames_per_video))]
            return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255, label
        return self._frames(path, range(place := index % self.frames_per_video, place + 1))[0], label

    def file_of(self, index: int) -> int:
        """The first of the samples of the same video: one that cannot be decoded is one bad sample."""
        return index if self.clip else index - index % self.frames_per_video

    def summary(self) -> list[dict[str, Any]]:
        """Of each video: path, class, fps, width, height, frames, seconds; or path, class and error."""
        rows = []
        for path, label in self.videos:
            row: dict[str, Any] = {"path": path, "class": self.classes[label]}
            try:
                rows.append(row | _facts(path))
            except UnreadableFile as fault:
                rows.append(row | {"error": fault.why})
        return rows

    def _frames(self, path: str, places: range) -> list[Any]:
        """The frames at some of the evenly spaced places."""
        times = self._times.get(path)
        if times is None:
            times = self._times[path] = _times(path)
        count = times if isinstance(times, int) else len(times)
        wanted = [(2 * place + 1) * count // (2 * self.frames_per_video) for place in places]
        try:
            found = _decoded(path, sorted(set(wanted)), times)
        except _av().FFmpegError as error:
            raise _unreadable(path, error) from error
        return [found[number] if self.size is None else found[number].resize(self.size[::-1], resample=2) for number in wanted]


def _decoded(path: str, numbers: list[int], times: NDArray[np.int64] | int) -> dict[int, Any]:
    """Some frames of a file by number; from the key frame before the first one on, where the file says when its frames are shown."""
    with _av().open(path) as container:
        stream = _stream(container, path)
        if isinstance(times, int):
            return _counted(path, enumerate(container.decode(stream)), numbers)
        container.seek(int(times[numbers[0]]), stream=stream)
        left, found, last = list(numbers), {}, None
        for frame in container.decode(stream):
            if frame.pts is None or (frame.pts > times[numbers[0]] if last is None else frame.pts < last):
                break  # the seek went too far, or the times are not to be trusted
            last = frame.pts
            while left and frame.pts >= times[left[0]]:
                found[left.pop(0)] = _picture(frame)
            if not left:
                return found
    with _av().open(path) as container:
        return _counted(path, enumerate(container.decode(_stream(container, path))), numbers)


def _counted(path: str, frames: Any, numbers: list[int]) -> dict[int, Any]:
    """The same frames, counted from the beginning."""
    found, wanted = {}, set(numbers)
    for number, frame in frames:
        if number in wanted:
            found[number] = _picture(frame)
        if number >= numbers[-1]:
            return found
    raise UnreadableFile(path, f"frame {next(number for number in numbers if number not in found)} cannot be decoded")


def _picture(frame: Any) -> Any:
    """A frame as an RGB image, upright as the file asks for it."""
    image = frame.to_image()
    return image.rotate(frame.rotation, expand=True) if getattr(frame, "rotation", 0) else image


def _times(path: str) -> NDArray[np.int64] | int:
    """When each frame is shown, ascending, in the stream's unit; or the number of frames, where the file does not say."""
    try:
        with _av().open(path) as container:
            stream = _stream(container, path)
            times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
            # Frames that are stored in another order than they are shown in, and times that do not tell (AVI): only counting helps.
            unordered = stream.codec_context.has_b_frames and None not in times and times == sorted(times)
            trusted = bool(times) and None not in times and len(set(times)) == len(times) and not unordered
        if not trusted:
            with _av().open(path) as container:
                times = [None] * sum(1 for _ in container.decode(_stream(container, path)))
    except _av().FFmpegError as error:
        raise _unreadable(path, error) from error
    if not times:
        raise UnreadableFile(path, "it has no frames")
    return np.array(sorted(times), dtype=np.int64) if trusted else len(times)


def _facts(path: str) -> dict[str, Any]:
    times = _times(path)
    with _av().open(path) as container:
        stream = _stream(container, path)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        frames = times if isinstance(times, int) else len(times)
        seconds = frames / fps if fps else 0.0
        if not isinstance(times, int) and len(times) > 1:
            span = float((int(times[-1]) - int(times[0])) * stream.time_base)
            seconds, fps = span * frames / (frames - 1), (frames - 1) / span
        return {"fps": round(fps, 3), "width": stream.width, "height": stream.height, "frames": frames, "seconds": round(seconds, 3)}


def _stream(container: Any, path: str) -> Any:
    if not container.streams.video:
        raise UnreadableFile(path, "it holds no video")
    stream = container.streams.video[0]
    stream.thread_count = 1  # the loader workers are the threads
    return stream


def _find(root: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """The classes, and each video with its class."""
    what = f"video_frames: {root.absolute()}"
    if not root.is_dir():
        raise TrainingError(f"{what}: no such folder; name one that holds a folder of videos a class")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise TrainingError(f"{what}: no folder in it; expected one folder of videos a class")
    videos = []
    for label, name in enumerate(classes):
        found = sorted(os.path.join(at, file) for at, _, files in os.walk(root / name) for file in files if _is_video(file))  # noqa: PTH118
        if not found:
            raise TrainingError(f"{what}: no video for the class {name}; kinds are {', '.join(ENDINGS)}")
        videos += [(path, label) for path in found]
    return classes, videos


def _is_video(name: str) -> bool:
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    sides = [size, size] if isinstance(size, int) else size
    if sides is not None and (len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides)):
        raise TrainingError(f"video_frames: size {size!r} is no size; write [height, width] or one number for both")
    return None if sides is None else (sides[0], sides[1])


def _unreadable(path: str, error: Exception) -> UnreadableFile:
    return UnreadableFile(path, getattr(error, "strerror", None) or str(error).splitlines()[0])


def _av() -> Any:
    try:
        import av
    except ImportError as missing:
        raise TrainingError("video_frames: PyAV, which reads videos, is not installed; pip install ostinato[video]") from missing
    return av
