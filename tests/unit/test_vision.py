"""Each test imports in a fresh interpreter: a failed or mended import of torchvision stays for the life of a process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python(code: str, *first_on_path: Path) -> str:
    """What the code prints, with the repository (after ``first_on_path``) importable."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*first_on_path, ROOT]))}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_models_data_sets_and_transforms_work_once_it_is_imported() -> None:
    shown = python("""
from trainer.vision import import_torchvision
torchvision = import_torchvision()
assert import_torchvision() is torchvision
import torch, torchvision.transforms.v2 as v2
print(v2.RandomCrop(32, padding=4)(torch.zeros(3, 32, 32)).shape[-1], torchvision.datasets.CIFAR10.__name__)
print(torchvision.models.resnet18()(torch.zeros(1, 3, 64, 64)).shape[-1])
""")
    assert shown.split() == ["32", "CIFAR10", "1000"]


IMPORT_AND_SHOW = """
from trainer.errors import TrainingError
from trainer.vision import import_torchvision
try:
    import_torchvision()
except TrainingError as error:
    print(error)
"""


def test_a_missing_torchvision_is_said_in_one_line() -> None:
    shown = python("import sys; sys.modules['torchvision'] = None\n" + IMPORT_AND_SHOW)
    assert shown == "torchvision is not installed in this environment; pip install torchvision"


def test_a_torchvision_that_breaks_otherwise_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('compiled for another planet\\nsecond line')\n")
    shown = python(IMPORT_AND_SHOW, tmp_path)
    assert shown.startswith("torchvision cannot be imported beside torch ")
    assert "compiled for another planet;" in shown
    assert len(shown.splitlines()) == 1
