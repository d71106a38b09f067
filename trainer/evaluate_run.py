"""``ostinato evaluate``, inside each worker: a run's checkpoint over one of its data sets, exactly as training evaluates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer import errors
from trainer.config.load import load
from trainer.data.bad_samples import BadSamples
from trainer.distributed import join, leave
from trainer.errors import TrainingError
from trainer.evaluate import evaluate, try_some
from trainer.files import write_atomic
from trainer.finished import Finished, data_of, open_run
from trainer.outcome import Outcome, guarded
from trainer.rundir import RunDir
from trainer.seed import set_arithmetic


def request(run: str, split: str, checkpoint: str, result: Path) -> str:
    """What a worker is told, in one string.

    Args:
        run: the run folder.
        split: train, valid or test.
        checkpoint: best, last, or a checkpoint's name.
        result: the file for what is found.
    """
    return json.dumps({"run": run, "split": split, "checkpoint": checkpoint, "result": str(result)})


def run(told: str) -> int:
    """The entry of a worker: 0, or the process leaves with its exit code."""
    facts = json.loads(told)
    return guarded(lambda outcome: _work(outcome, facts["run"], facts["split"], facts["checkpoint"], Path(facts["result"])))


def _work(outcome: Outcome, path: str, split: str, checkpoint: str, result: Path) -> int:
    config = load(RunDir(path).config).config
    world = join(config.hardware)
    assert isinstance(config.hardware.threads, int)
    set_arithmetic(config.hardware, config.hardware.threads)
    finished = open_run(path, checkpoint, world, as_trained=True)
    dataset = data_of(finished, split)
    bad = BadSamples(config.data.max_bad_samples) if config.data.bad_samples == "skip" else None
    like = try_some(finished.model, finished.task, dataset, config, world, bad)
    found = evaluate(finished.model, finished.task, dataset, config, world, like, bad=bad)
    if bad is not None:
        bad.together(world)
    assert found is not None  # nobody breaks it off
    if not found.metrics:
        raise TrainingError(f"{path}: none of the samples of its {split} set can be read")
    if world.is_main:
        facts = {**_facts(finished, split, dataset, found.samples), "metrics": found.metrics, **found.details}
        write_atomic(result, (json.dumps(facts) + "\n").encode(), durable=False)
    leave(world)
    return errors.DONE


def _facts(finished: Finished, split: str, dataset: Any, samples: int) -> dict[str, Any]:
    """What was evaluated, and on what; nothing that depends on the number of workers."""
    classes = getattr(dataset, "classes", None)
    return {
        "run": finished.run.name,
        "split": split,
        "checkpoint": finished.checkpoint,
        "step": finished.step,
        "epoch": finished.epoch,
        "averaged": finished.averaged,
        "device": finished.world.device.type,
        "samples": samples,
        "left_out": len(dataset) - samples,  # they cannot be read
        "complaints": list(finished.complaints),
        "classes": [str(name) for name in classes] if classes is not None else None,
    }
