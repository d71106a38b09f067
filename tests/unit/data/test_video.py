"""Frames of real video files: the right ones, upright, whatever the container says about its times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.video_files import number_of, turn, write_video
from trainer.data.bad_samples import BadSamples
from trainer.data.loader import TrainLoader
from trainer.data.names import UnreadableFile
from trainer.data.order import BatchPlan
from trainer.data.splits import subset
from trainer.data.transforms import Transformed
from trainer.data.video import VideoFrames
from trainer.errors import TrainingError

pytest.importorskip("av", reason="PyAV is an extra")


def folder(root: Path, ending: str = ".mp4", frames: int = 10, **options: object) -> Path:
    """Two classes: two videos of the one, one of the other."""
    for name in ("jump/a", "jump/b", "walk/c"):
        write_video(root / f"{name}{ending}", frames, **options)  # type: ignore[arg-type]
    return root


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".webm", ".avi"])
def test_frames_are_evenly_spaced_over_each_video(tmp_path: Path, ending: str) -> None:
    videos = VideoFrames(str(folder(tmp_path, ending)), frames_per_video=5)
    assert (len(videos), videos.classes, videos.targets) == (15, ["jump", "walk"], [0] * 10 + [1] * 5)
    assert [number_of(videos[i][0]) for i in range(5)] == [1, 3, 5, 7, 9]
    assert [videos[i][1] for i in (0, 5, 10)] == [0, 0, 1]
    assert videos[7][0].size == (64, 48)


@pytest.mark.parametrize(("ending", "codec"), [(".mp4", "libx264"), (".mpg", "mpeg1video"), (".avi", "libx264"), (".m4v", "mpeg4")])
def test_any_frame_is_found_from_any_side(tmp_path: Path, ending: str, codec: str) -> None:
    write_video(tmp_path / f"jump/a{ending}", 20, fps=25, codec=codec, gop=6)
    videos = VideoFrames(str(tmp_path), frames_per_video=20)
    assert [number_of(videos[i][0]) for i in range(20)] == list(range(20))
    assert [number_of(videos[i][0]) for i in (13, 2, 19, 0, 7)] == [13, 2, 19, 0, 7]


def test_a_short_video_gives_some_frames_again(tmp_path: Path) -> None:
    write_video(tmp_path / "jump/a.mp4", 3)
    videos = VideoFrames(str(tmp_path), frames_per_video=6)
    assert [number_of(videos[i][0]) for i in range(6)] == [0, 0, 1, 1, 2, 2]


def test_frames_have_the_size_asked_for(tmp_path: Path) -> None:
    root = str(folder(tmp_path))
    assert VideoFrames(root, size=[24, 40])[0][0].size == (40, 24)
    assert VideoFrames(root, size=32)[0][0].size == (32, 32)


def test_a_clip_is_all_frames_of_a_video_in_their_order(tmp_path: Path) -> None:
    clips = VideoFrames(str(folder(tmp_path)), frames_per_video=5, size=[24, 32], clip=True)
    assert (len(clips), clips.targets) == (3, [0, 0, 1])
    clip, label = clips[2]
    assert clip.shape == (5, 3, 24, 32)
    assert label == 1
    assert [number_of(frame * 255) for frame in clip] == [1, 3, 5, 7, 9]


def test_a_video_filmed_upright_is_shown_upright(tmp_path: Path) -> None:
    import av
    from PIL import Image

    path = tmp_path / "jump" / "a.mp4"
    path.parent.mkdir()
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:, :32] = 255  # the left half is white; turned clockwise it comes to the top
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for packet in [*stream.encode(av.VideoFrame.from_image(Image.fromarray(pixels))), *stream.encode()]:
            container.mux(packet)
    turn(path)
    picture = np.asarray(VideoFrames(str(tmp_path), frames_per_video=1)[0][0])
    assert picture.shape == (64, 48, 3)
    assert picture[:28].min() > 200
    assert picture[36:].max() < 50


def test_the_summary_says_what_the_videos_are(tmp_path: Path) -> None:
    write_video(tmp_path / "jump/a.mp4", 10, fps=5)
    write_video(tmp_path / "walk/b.mkv", 15, fps=30, size=(32, 16))
    (tmp_path / "walk/c.mp4").write_bytes(b"no video at all")
    first, second, third = VideoFrames(str(tmp_path)).summary()
    assert first == {"path": str(tmp_path / "jump/a.mp4"), "class": "jump", "fps": 5, "width": 64, "height": 48, "frames": 10, "seconds": 2}
    assert (second["width"], second["height"], second["frames"]) == (32, 16, 15)
    assert second["fps"] == pytest.approx(30, rel=0.01)  # Matroska keeps times in whole milliseconds
    assert second["seconds"] == pytest.approx(0.5, abs=0.01)
    assert third["class"] == "walk"
    assert "Invalid data" in third["error"]


def test_frames_are_read_alike_in_loader_workers_and_a_corrupt_video_is_passed_over(tmp_path: Path) -> None:
    videos = Transformed(VideoFrames(str(folder(tmp_path)), frames_per_video=4, size=16))
    plan = BatchPlan(12, 4, 1, seed=2)
    here, there = ([step[0][0] for step in TrainLoader(videos, plan, loader_workers=workers).epoch(0)] for workers in (0, 2))
    assert here[0].shape == (4, 3, 16, 16)
    assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
    (tmp_path / "jump/b.mp4").write_bytes((tmp_path / "jump/b.mp4").read_bytes()[:500])
    with pytest.raises(UnreadableFile, match=r"b\.mp4: "):
        videos[4]
    videos = Transformed(VideoFrames(str(tmp_path), frames_per_video=4, size=16))
    with pytest.raises(TrainingError, match=r"data set VideoFrames: sample \d \(.*b.mp4\) cannot be read: [^/]+$"):
        list(TrainLoader(videos, plan).epoch(0))
    for dataset in (videos, subset(videos, np.arange(12)[::-1])):
        bad = BadSamples(1)  # all frames of the broken video are one
        assert len(list(TrainLoader(dataset, plan, bad=bad).epoch(0))) == 3
        assert {number for _, number in bad.found} == {4}


def test_a_sound_file_holds_no_video(tmp_path: Path) -> None:
    import av

    path = tmp_path / "jump" / "a.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    with pytest.raises(UnreadableFile, match="it holds no video"):
        VideoFrames(str(tmp_path))[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"root": "none"}, "no such folder; name one that holds a folder of videos a class"),
        ({"root": "empty"}, "no folder in it; expected one folder of videos a class"),
        ({"root": "holed"}, "no video for the class walk"),
        ({"root": "good", "frames_per_video": 0}, "must be at least 1"),
        ({"root": "good", "size": [0, 4]}, "is no size; write"),
        ({"root": "good", "size": [4]}, "is no size; write"),
    ],
)
def test_wrong_arguments_are_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "holed/walk", "good/walk"):
        Path(name).mkdir(parents=True)
    Path("holed/walk/notes.txt").touch()
    Path("good/walk/a.mp4").touch()
    with pytest.raises(TrainingError, match=said) as caught:
        VideoFrames(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_without_pyav_one_line_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['av'] = None\n"
        "from trainer.data.video import VideoFrames\n"
        "from trainer.errors import TrainingError\n"
        f"try: VideoFrames({str(tmp_path)!r})\n"
        "except TrainingError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "video_frames: PyAV, which reads videos, is not installed; pip install ostinato[video]\n"
