"""Some predictions to look at, kept beside an evaluation: what was surely wrong, what was least sure, and some as they come.

Called on rank 0 alone, when training is over. Whatever fails here is said, and the run ends as it should.
"""

from __future__ import annotations

import base64
import io
import itertools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from trainer.data.loader import eval_batches
from trainer.data.names import reason
from trainer.data.pictures import as_picture
from trainer.evaluate import autocast
from trainer.files import json_text, write_atomic
from trainer.rundir import RunDir
from trainer.step import to_device
from trainer.tasks.classification import Classification

if TYPE_CHECKING:
    from trainer.build import Job

log = logging.getLogger("trainer")

LOOKED_AT = 1024
WRONG, UNSURE, PLAIN = 8, 4, 4
GUESSES = 3
SIDE = 96


@dataclass(frozen=True)
class Seen:
    """One sample: how many were seen before, the input, the class it has, and the probability of each."""

    index: int
    value: torch.Tensor
    truth: int
    scores: torch.Tensor

    @property
    def right(self) -> bool:
        """Whether the likeliest class is the true one."""
        return int(self.scores.argmax()) == self.truth

    @property
    def sure(self) -> float:
        """The likeliest class's probability."""
        return float(self.scores.max())


def keep_samples(job: Job, run: RunDir, split: str) -> None:
    """Write ``samples-<split>.json``: of a classification some predictions, with small pictures where the inputs are some."""
    dataset = getattr(job, split)
    if dataset is None or not isinstance(job.task, Classification):
        return
    try:
        chosen = choose(look_at(job, dataset))
        if not chosen:
            return
        names = class_names(job, split)
        text = json_text({"step": job.state.step, "samples": [card(seen, names) for seen in chosen]}) + "\n"
        write_atomic(run.samples(split), text.encode(), durable=False)
    except Exception as fault:
        log.warning("no predictions are kept to look at (%s)", reason(fault))


def class_names(job: Job, split: str) -> list[str]:
    """The classes' names, where a data set knows them."""
    return [str(name) for name in getattr(getattr(job, split), "classes", None) or getattr(job.train_set, "classes", None) or []]


@torch.no_grad()
def look_at(job: Job, dataset: Any) -> list[Seen]:
    """The first samples of a set, with what the model says of them; none where a sample is not of one class."""
    size, found = job.config.data.eval_batch_size, list[Seen]()
    job.state.model.eval()
    try:
        batches = eval_batches(dataset, size, seed=job.config.seed, bad=job.bad)
        for _, inputs, targets in itertools.islice(batches, max(1, LOOKED_AT // size)):
            job.place.tick += 1
            if not isinstance(inputs, torch.Tensor) or not isinstance(targets, torch.Tensor):
                continue  # nothing of it could be read, or it is more than a tensor
            if targets.ndim != 1 or targets.is_floating_point():
                return []
            with autocast(job.config, job.world):
                output = job.state.model(to_device(inputs, job.world.device))
            if output.ndim != 2:
                return []
            scores = output.float().softmax(1).cpu()
            found.extend(Seen(len(found) + n, *one) for n, one in enumerate(zip(inputs, targets.tolist(), scores, strict=True)))
    finally:
        job.state.model.train()
    return found


def choose(seen: list[Seen]) -> list[Seen]:
    """Those that tell most: wrong ones by how sure they were, right ones by how unsure, then some from the beginning. Pure."""
    wrong = sorted((one for one in seen if not one.right and one.truth >= 0), key=lambda one: -one.sure)[:WRONG]
    right = [one for one in seen if one.right]
    unsure = sorted(right, key=lambda one: one.sure)[:UNSURE]
    taken = {one.index for one in unsure}
    return [*wrong, *unsure, *[one for one in right if one.index not in taken][:PLAIN]]


def card(seen: Seen, names: list[str]) -> dict[str, Any]:
    """A sample in plain types."""
    best = seen.scores.topk(min(GUESSES, len(seen.scores)))
    guesses = [
        {"label": _name(names, label), "probability": round(value, 6)}
        for label, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return {
        "truth": _name(names, seen.truth),
        "right": seen.right,
        "guesses": guesses,
        "picture": picture_of(seen.value),
    }


def _name(names: list[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else str(label)


def picture_of(value: torch.Tensor) -> str | None:
    """An input as a small PNG in a ``data:`` address; None: it is no picture."""
    from PIL import Image

    picture = as_picture(value)
    if picture is None:
        return None
    pixels = (picture[:3] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > SIDE:
        image.thumbnail((SIDE, SIDE))
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
