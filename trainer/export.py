"""A run's model in a form that is used elsewhere. What was written is loaded again and compared with the run's model on a real batch."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import runpy
import shutil
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from trainer import __version__
from trainer.config.checks import splits
from trainer.data.inputs import Inputs
from trainer.data.loader import eval_batches
from trainer.data.names import reason
from trainer.distributed import World
from trainer.errors import DIFFERENT, ConfigError, OstinatoError, RunFolderError, TrainingError
from trainer.export_loader import loader
from trainer.finished import BEST, Finished, data_of, inputs_of, open_run
from trainer.seed import set_arithmetic

FORMATS = ("safetensors", "torch", "onnx")
TOLERANCE = 1e-4
"""The largest difference of an output, as a share of the largest output."""
ROUNDING = 5e-6
"""What is allowed in any case: outputs may be near 0 because large numbers cancel out, and these are rounded."""
BATCH = 8


class ExportError(OstinatoError):
    """What was written does not compute what the run's model computes."""

    exit_code = DIFFERENT


@dataclass(frozen=True)
class Made:
    """One exported form.

    Args:
        format: safetensors, torch or onnx.
        files: their names.
        difference: the largest between its outputs and those of the run's model.
        samples: on how many samples.
        note: what else is to be known about it.
    """

    format: str
    files: tuple[str, ...]
    difference: float
    samples: str
    note: str


@dataclass(frozen=True)
class _Source:
    """What all formats begin with."""

    finished: Finished
    inputs: Inputs
    batch: Any
    samples: str
    outputs: list[torch.Tensor]


def export(path: str, formats: list[str], folder: Path | None = None, checkpoint: str = BEST) -> tuple[Path, list[Made], list[str]]:
    """Export a run's model, in all formats or in none.

    Args:
        path: the run folder.
        formats: of `FORMATS`.
        folder: where to, and no file there is replaced; None: the run's own ``exports/``, by checkpoint, whose files are made anew.
        checkpoint: best, last, or a checkpoint's name.

    Returns:
        The folder, what was made, and what was wrong with checkpoints that were passed over.

    Raises:
        ExportError: a form gives other outputs; nothing is left of it.
        OstinatoError: the run cannot be used, a package is missing, or the folder cannot be written.
    """
    if "onnx" in formats:
        _need_onnx()
    finished = open_run(path, checkpoint, World(0, 1, 0, 1, torch.device("cpu")))
    assert isinstance(finished.config.hardware.threads, int)
    set_arithmetic(finished.config.hardware, finished.config.hardware.threads)
    source = _source(finished)
    target = folder or finished.run.exports / finished.checkpoint
    with _Room(target) as room:
        made = [_MAKERS[name](source, room.path) for name in formats]
        for one in made:
            _check(one, source)
        room.keep(anew=folder is None)
    return target, made, list(finished.complaints)


def _need_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"command line: --format=onnx: {', '.join(missing)} is not installed; pip install 'ostinato[onnx]'")


@torch.no_grad()
def _source(finished: Finished) -> _Source:
    """A batch, and what the run's model makes of it, in float32 as all forms compute."""
    inputs = inputs_of(finished)
    batch, samples = _batch(finished, inputs)
    try:
        outputs = [leaf.detach().clone() for leaf in tree_leaves(finished.model(batch)) if isinstance(leaf, torch.Tensor)]
    except (RuntimeError, TypeError, ValueError) as fault:
        raise TrainingError(f"{finished.run.path}: the model cannot take its own data: {reason(fault)}") from fault
    return _Source(finished, inputs, batch, samples, outputs)


def _batch(finished: Finished, inputs: Inputs) -> tuple[Any, str]:
    """Some samples of the run's data; made-up ones of their shape where the data are not here."""
    split = splits(finished.config)[0]
    try:
        found = next(itertools.islice(eval_batches(data_of(finished, split), BATCH, seed=finished.config.seed), 1))[1]
    except OstinatoError as fault:
        if inputs.shape is None or inputs.dtype != "float32":
            raise TrainingError(f"the run's data are needed to compare the outputs, and cannot be read: {fault}") from fault
        made_up = torch.randn(BATCH, *inputs.shape, generator=torch.Generator().manual_seed(0))
        return made_up, f"{BATCH} made-up samples, as the run's data are not here"
    return found, f"{len(next(leaf for leaf in tree_leaves(found)))} samples of the {split} set"


def _safetensors(source: _Source, room: Path) -> Made:
    """Weights, classes, config, and the python that loads them."""
    from safetensors.torch import save_model

    finished = source.finished
    written = loader(finished.config, finished.model, source.inputs, finished.run.name, finished.checkpoint)
    save_model(finished.model, str(room / "model.safetensors"), metadata={"format": "pt", "ostinato": __version__})
    classes = list(source.inputs.classes) if source.inputs.classes else None
    texts = {
        "load.py": written.text,
        "classes.json": json.dumps(classes, ensure_ascii=False) + "\n",
        "model.json": json.dumps(_about(source), indent=2) + "\n",
        "config.yaml": finished.run.config.read_text(encoding="utf-8"),
    }
    for name, text in texts.items():
        (room / name).write_text(text, encoding="utf-8")
    model: nn.Module = runpy.run_path(str(room / "load.py"))["load"]()
    difference = _difference(source, lambda batch: model(batch))
    return Made("safetensors", ("model.safetensors", *texts), difference, source.samples, f"load.py needs {written.needs}")


def _about(source: _Source) -> dict[str, Any]:
    """What belongs to the weights."""
    finished, config = source.finished, source.finished.config
    return {
        "run": finished.run.name,
        "checkpoint": finished.checkpoint,
        "step": finished.step,
        "epoch": finished.epoch,
        "averaged": finished.averaged,
        "model": {"target": config.model.target, **config.model.arguments},
        "task": type(finished.task).__name__,
        "inputs": {name: value for name, value in asdict(source.inputs).items() if name != "classes"},
        "eval_transforms": [{"target": target.target, **target.arguments} for target in config.data.eval_transforms],
        "versions": {"ostinato": __version__, "torch": torch.__version__},
    }


def _torch(source: _Source, room: Path) -> Made:
    """A program of `torch.export`."""
    program, note = _program(source)
    torch.export.save(program, room / "model.pt2")
    module = torch.export.load(room / "model.pt2").module()
    return Made("torch", ("model.pt2",), _difference(source, module), source.samples, note)


def _onnx(source: _Source, room: Path) -> Made:
    """An ONNX file, which ONNX Runtime runs."""
    import onnxruntime

    program, note = _program(source)
    path = room / "model.onnx"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["input"])
            assert made is not None
            made.model.metadata_props["classes"] = json.dumps(source.inputs.classes)
            made.save(path, external_data=False)
    except Exception as fault:
        raise TrainingError(f"--format=onnx: the model cannot be written as ONNX: {reason(fault)}; another format may do") from fault
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    difference = _difference(source, lambda batch: [torch.from_numpy(value) for value in session.run(None, {name: batch.numpy()})])
    return Made("onnx", ("model.onnx",), difference, source.samples, note)


_MAKERS: dict[str, Callable[[_Source, Path], Made]] = {"safetensors": _safetensors, "torch": _torch, "onnx": _onnx}


def _program(source: _Source) -> tuple[Any, str]:
    """The model's computation; for batches of any size, unless the model cannot do without one."""
    model, batch = source.finished.model, source.batch
    if not isinstance(batch, torch.Tensor):
        raise TrainingError(f"the model takes a {type(batch).__name__}, and not one tensor; only --format=safetensors can be exported")
    faults = []
    for shapes, note in ((({0: torch.export.Dim.DYNAMIC},), "any batch size"), (None, f"batches of {len(batch)} samples only")):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.export.export(model, (batch,), dynamic_shapes=shapes), note
        except Exception as fault:  # whatever a model's code may do that cannot be traced
            faults.append(fault)
    raise TrainingError(f"torch.export cannot follow the model's code: {reason(faults[-1])}; --format=safetensors can be exported")


@torch.no_grad()
def _difference(source: _Source, call: Callable[[Any], Any]) -> float:
    """The largest difference between what a form and the run's model give; where one is NaN or only one infinite, it is infinite."""
    theirs = [leaf for leaf in tree_leaves(call(source.batch)) if isinstance(leaf, torch.Tensor)]
    if [tuple(value.shape) for value in theirs] != [tuple(value.shape) for value in source.outputs]:
        return float("inf")
    pairs = [(one.double(), other.double()) for one, other in zip(source.outputs, theirs, strict=True) if one.numel()]
    # Equal places first: infinity less infinity is NaN. And NaN is made infinity, as `max` may pass over it.
    worst = [float((one - other).abs().masked_fill(one == other, 0.0).max()) for one, other in pairs]
    return max((value if math.isfinite(value) else math.inf for value in worst), default=0.0)


def _check(made: Made, source: _Source) -> None:
    numbers = [value.double().abs() for value in source.outputs if value.numel()]
    largest = max((float(value.masked_fill(~value.isfinite(), 0.0).max()) for value in numbers), default=0.0)
    allowed = max(TOLERANCE * largest, ROUNDING)
    if made.difference > allowed:
        raise ExportError(
            f"--format={made.format}: its outputs differ by up to {made.difference:.3g} from those of the run's model, more than "
            f"{allowed:.3g} ({made.samples}); nothing was written"
        )


class _Room:
    """A folder inside the target, in which files are made; they move out of it when all are good, and else nothing is left."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.new = [folder for folder in (target, *target.parents) if not folder.exists()]
        try:
            target.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix=".partial-", dir=target))
        except OSError as fault:
            raise RunFolderError(f"{target}: cannot be written ({fault.strerror}); name another folder (--output)") from fault

    def __enter__(self) -> _Room:
        return self

    def keep(self, *, anew: bool) -> None:
        """Put the files where they belong.

        Args:
            anew: files of these names may be there, of an earlier export.

        Raises:
            RunFolderError: they are there, and may be somebody's own.
        """
        files = sorted(self.path.iterdir())
        if not anew and (there := [file.name for file in files if os.path.lexists(self.target / file.name)]):
            raise RunFolderError(f"{self.target}: {', '.join(there)}: there already, and left alone; name another folder (--output)")
        for file in files:
            file.replace(self.target / file.name)
        self.new = []

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, Exception) and not self.path.exists():
            raise RunFolderError(f"{self.target}: was moved away while files were made in it; nothing was exported") from fault
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in self.new:
            with suppress(OSError):
                folder.rmdir()
