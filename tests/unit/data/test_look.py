"""``ostinato inspect data``: the numbers it says are those of the data, and it leaves nothing behind but the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from launcher.look import look as look_command
from tests.support.image_files import write_folder
from tests.support.video_files import write_video
from trainer.data.arrays import Arrays
from trainer.data.images import image_folder
from trainer.data.keys import sample_keys, seed_sample
from trainer.data.look import look
from trainer.data.order import permute
from trainer.data.pictures import write_grid
from trainer.data.transforms import Transformed
from trainer.data.video import VideoFrames
from trainer.errors import DONE, TRAINING_FAILED, ConfigError, TrainingError

CONFIG = """
model: {{target: cnn, in_channels: 3, num_classes: 2}}
data:
  train: {{target: image_folder, root: {root}}}
  valid: {{target: digits, split: valid}}
  train_transforms:
    - {{target: RandomHorizontalFlip}}
  batch_size: 4
optimizer: {{target: sgd, lr: 0.1}}
train: {{epochs: 1}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_folder(tmp_path / "pictures", per_class=6)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "ants.yaml"
    path.write_text(CONFIG.format(root=tmp_path / "pictures"))
    return path


def test_mean_deviation_and_range_are_those_of_the_inputs(tmp_path: Path) -> None:
    values = torch.rand(300, 3, 6, 5) * torch.tensor([1.0, 2.0, 4.0]).reshape(3, 1, 1)
    facts = look(Arrays(values, torch.arange(300) % 3, ["a", "b", "c"])).facts
    assert facts.mean == pytest.approx(values.double().mean((0, 2, 3)).tolist())
    assert facts.std == pytest.approx(values.double().std((0, 2, 3), correction=0).tolist())
    assert (facts.low, facts.high) == (float(values.min()), float(values.max()))
    assert (facts.samples, facts.looked_at, facts.shapes) == (300, 300, {"[3, 6, 5] float32": 300})
    assert (facts.classes, facts.counted, facts.target) == ({"a": 100, "b": 100, "c": 100}, "in all samples", "int64")


def test_a_large_set_is_looked_at_in_part_and_its_labels_in_whole() -> None:
    labels = torch.zeros(5000, dtype=torch.int64)
    labels[:40] = 1
    facts = look(Arrays(torch.zeros(5000, 2), labels, ["many", "few", "none"]), limit=50).facts
    assert facts.looked_at == 50
    assert facts.classes == {"many": 4960, "few": 40, "none": 0}


def test_what_is_read_are_the_samples_that_training_begins_with_and_as_it_reads_them(tmp_path: Path) -> None:
    class Drawn:
        def __len__(self) -> int:
            return 100

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.rand(1, 2, 2), index

    seen = look(Drawn(), seed=7, limit=20)
    order = permute(np.arange(20), 100, 7, 0)
    assert [label for _, label in seen.pictures] == [str(index) for index in order[:16].tolist()]
    drawn = []
    for key in sample_keys(order, 7, 0).tolist():
        seed_sample(key)
        drawn.append(torch.rand(1, 2, 2))
    assert seen.facts.mean == pytest.approx([float(torch.stack(drawn).double().mean())])
    assert look(Drawn(), seed=7, limit=20, training=False).facts.mean != seen.facts.mean


def test_numbers_to_predict_and_characters_have_no_classes_and_no_picture() -> None:
    seen = look(Arrays(torch.randn(30, 4), torch.randn(30, 1)))
    assert (seen.facts.classes, seen.pictures, len(seen.facts.mean)) == ({}, [], 1)
    ids = look(Arrays(torch.arange(60).reshape(20, 3), torch.arange(60).reshape(20, 3)))
    assert (ids.facts.mean, ids.facts.low, ids.facts.high, ids.facts.classes) == ([], 0, 59, {})


def test_other_shapes_and_numbers_that_are_not_finite_are_told(tmp_path: Path) -> None:
    class Odd:
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return torch.full((3, 4 if index < 8 else 5, 4), float("nan") if index == 2 else 1.0), 0

    facts = look(Odd()).facts
    assert facts.shapes == {"[3, 4, 4] float32": 8, "[3, 5, 4] float32": 2}
    assert (facts.not_finite, facts.low, facts.mean) == (1, 1.0, [1.0, 1.0, 1.0])


def test_samples_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, per_class=4)
    for name in ("ants/1.png", "bees/3.png"):
        (tmp_path / name).write_bytes(b"")
    facts = look(Transformed(image_folder(str(tmp_path)))).facts
    assert sorted(line.partition(": ")[0] for line in facts.bad) == [
        f"sample 1 ({tmp_path}/ants/1.png)",
        f"sample 7 ({tmp_path}/bees/3.png)",
    ]
    assert facts.shapes == {"[3, 10, 12] float32": 6}
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(TrainingError, match="data set ImageFolder: not one of 8 samples can be read; the first: sample"):
        look(Transformed(image_folder(str(tmp_path))))


def test_the_picture_shows_each_input_and_its_label(tmp_path: Path) -> None:
    from PIL import Image

    ramp = torch.linspace(0, 1, 16).reshape(1, 4, 4)
    write_grid([(torch.zeros(3, 8, 8), "a"), (torch.ones(3, 8, 16), "b"), (ramp, "ß→")], tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        sheet = np.asarray(picture.convert("RGB")).astype(int)
    assert (sheet[4:116, 4:116] == 0).all()
    label = sheet[116:130, 4:116]
    assert (label.min() < 100, label.max()) == (True, 255)  # black on white, its edges smoothed
    assert (sheet[4:116, 120:232] == 255).all()
    cell = sheet[4:116, 236:348, 0]
    assert (cell[0, 0], cell[111, 111]) == (0, 255)
    assert len(np.unique(cell)) == 16


def test_the_command_says_what_the_sets_are_and_creates_no_run(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    assert look_command(str(config), ["data.batch_size=2"], as_json=False) == DONE
    said = capsys.readouterr().out
    assert "training set: ImageFolder, 12 samples, 12 of them looked at" in said
    assert "[3, 10, 12] float32" in said
    assert "2, counted in all samples; balanced" in said
    assert "validation set: Digits, 270 samples" in said
    assert "ants-data.png" in said
    with Image.open("ants-data.png") as picture:
        assert picture.size == (468, 394)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ants-data.png", "ants.yaml", "pictures"]


def test_the_command_can_answer_in_json_and_draw_for_tensorboard(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert look_command(str(config), [], as_json=True, tensorboard=str(tmp_path / "tb")) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["pictures"] == ["ants-data.png", str(tmp_path / "tb")]
    assert found["splits"]["train"]["classes"] == {"ants": 6, "bees": 6}
    assert len(found["splits"]["train"]["mean"]) == 3
    assert list(found["splits"]) == ["train", "valid"]
    events = EventAccumulator(str(tmp_path / "tb"), size_guidance={"images": 0}).Reload()
    assert events.Images("data/train")[0].width == 468


def test_a_sample_that_would_end_the_run_gives_the_exit_code_that_the_run_would_have(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "pictures" / "ants" / "2.png"
    broken.write_bytes(b"GIF")
    assert look_command(str(config), [], as_json=False) == TRAINING_FAILED
    said = capsys.readouterr().out
    assert "1 cannot be read" in said
    assert f"sample 2 ({broken})" in said
    assert look_command(str(config), ["data.bad_samples=skip"], as_json=False) == DONE
    with pytest.raises(ConfigError, match=r"ants\.yaml:4: data.train.modus: image_folder has no argument 'modus'") as caught:
        config.write_text(config.read_text().replace("pictures}", "pictures, modus: gray}"))
        look_command(str(config), [], as_json=False)
    assert len(caught.value.problems) == 1


def test_the_classes_that_are_most_and_least_are_named(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        (tmp_path / "pictures" / "bees" / f"{number}.png").unlink()
    assert look_command(str(config), ["data.valid=null"], as_json=False) == DONE
    said = capsys.readouterr().out
    assert "2, counted in all samples; most samples: ants 6; fewest: bees 4 (1.50 to 1)" in said
    assert "    ants         6   60.0 %" in said


def test_videos_are_summarised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av", reason="PyAV is an extra")
    for name in ("jump/a.mp4", "walk/b.mp4"):
        write_video(tmp_path / "clips" / name, 10, fps=5)
    videos = Transformed(VideoFrames(str(tmp_path / "clips"), frames_per_video=4, size=16))
    assert [video["frames"] for video in look(videos).facts.videos] == [10, 10]
    monkeypatch.chdir(tmp_path)
    arguments = f"{{target: 'trainer.data.video:VideoFrames', root: {tmp_path / 'clips'}, frames_per_video: 4, size: [16, 16], clip: true}}"
    overrides = [f"data.train={arguments}", "data.valid=null", "data.train_transforms=[]", "data.batch_size=2"]
    Path("v.yaml").write_text(CONFIG.format(root="nowhere"))
    assert look_command("v.yaml", overrides, as_json=False) == DONE
    said = capsys.readouterr().out
    assert f"{tmp_path}/clips/jump/a.mp4: 5 fps, 64×48, 10 frames, 2 s" in said
    assert "[4, 3, 16, 16] float32" in said
    assert Path("v-data.png").exists()
