"""Where ``start.pretrained`` points: what can be said of it before anything is opened. Free of torch."""

from __future__ import annotations

from pathlib import Path

from trainer.config.explain import did_you_mean
from trainer.rundir import RunDir

FILES = (".pt", ".pth", ".safetensors")


def is_file_name(pretrained: str) -> bool:
    """Whether a file is meant, and not a name of torchvision's weights."""
    path = Path(pretrained)
    return path.suffix in FILES or "/" in pretrained or path.is_file()


def missing(pretrained: str) -> str | None:
    """What is wrong with a path: no run in the folder, or no such file; None: it is there, or it is a name of torchvision's."""
    path = Path(pretrained)
    if path.is_dir():
        found = RunDir(path).exists()
        return None if found else f"{path}: no run here (it has no config.yaml); name a run folder or a file of weights"
    if not is_file_name(pretrained) or path.is_file():
        return None
    near = did_you_mean(path.name, [p.name for p in path.parent.glob("*") if p.suffix in FILES])
    return f"{path}: there is no such file{near}"
