"""New inputs for a run's model: pictures of any kind, texts, rows of numbers → classes with their probabilities, or values.

Nothing of the run's data is needed: `trainer.data.inputs` says how an input is prepared. The same code serves a page in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import default_collate

from trainer import build
from trainer.data.images import ImageReader
from trainer.data.inputs import Inputs
from trainer.data.keys import EVALUATION, sample_keys, seed_sample
from trainer.data.names import UnreadableFile, reason
from trainer.data.text import word_counts
from trainer.data.transforms import TransformList, is_pil
from trainer.errors import TrainingError
from trainer.finished import BEST, Finished, inputs_of, open_run
from trainer.seed import set_arithmetic
from trainer.step import AMP_DTYPES, to_device
from trainer.tasks.base import Task
from trainer.tasks.classification import Classification, MultiLabel
from trainer.tasks.regression import Regression

# Transforms that cut, pad or recolour a picture and leave its scale as it is.
_SCALE_KEPT = frozenset(
    {"CenterCrop", "RandomCrop", "Pad", "Normalize", "Grayscale", "RGB", "ToTensor", "ToImage", "ToDtype", "ToPureTensor"}
)


class InputError(TrainingError):
    """One input that cannot be used; the others can."""


@dataclass(frozen=True)
class Prediction:
    """What the model answers to one input: classes or values, one of the two.

    Args:
        pairs: labels and their probabilities, the likeliest first.
        values: the numbers of a regression.
    """

    pairs: tuple[tuple[str, float], ...] = ()
    values: tuple[float, ...] = ()

    @property
    def label(self) -> str | None:
        """The likeliest class."""
        return self.pairs[0][0] if self.pairs else None


class Predictor:
    """A run's model, ready for inputs.

    Args:
        run_dir: the run folder; it is only read.
        checkpoint: ``best``, ``last``, or a checkpoint's name.

    Raises:
        OstinatoError: the run cannot be used; the text says why.
    """

    def __init__(self, run_dir: str | Path, checkpoint: str = BEST) -> None:
        self.finished: Finished = open_run(str(run_dir), checkpoint)
        config = self.finished.config
        assert isinstance(config.hardware.threads, int)
        set_arithmetic(config.hardware, config.hardware.threads)
        self.inputs: Inputs = inputs_of(self.finished)
        if self.inputs.kind == "other":
            raise TrainingError(
                f"{run_dir}: its inputs are neither pictures nor texts nor numbers, so no file can be made one; "
                "use trainer.finished.open_run and call the model in a script of yours"
            )
        self.kind: str = self.inputs.kind
        self.classes: list[str] | None = list(self.inputs.classes) if self.inputs.classes else None
        self._transforms = build.eval_transforms(config)
        self._chain = TransformList(self._transforms)
        self._scale_kept = _keep_the_scale(self._transforms)
        self._decode = ImageReader(self.inputs.mode, self.inputs.background)  # type: ignore[arg-type]
        self._words: list[str] | None = None

    @property
    def name(self) -> str:
        """The run's name."""
        return self.finished.run.name

    @property
    def checkpoint(self) -> str:
        """The checkpoint whose weights answer."""
        return self.finished.checkpoint

    def predict(self, inputs: Sequence[Any], top_k: int = 5) -> list[Prediction]:
        """Answer some inputs, in one forward pass.

        Args:
            inputs: pictures (paths, PIL images, or uint8 arrays of shape (height, width[, channels])), texts, or rows of numbers.
            top_k: how many of the likeliest classes to tell.

        Raises:
            InputError: one of them cannot be used; `prepare` tells which.
        """
        return self.answer([self.prepare(value) for value in inputs], top_k)

    def prepare(self, value: Any) -> torch.Tensor:
        """One input as the model takes it, without the batch's dimension.

        Raises:
            InputError: it cannot be used; the text is one line.
        """
        seed_sample(int(sample_keys(np.zeros(1, dtype=np.int64), self.finished.config.seed, EVALUATION)[0]))
        try:
            return {"image": self._image, "text": self._text, "array": self._array}[self.kind](value)
        except (InputError, MemoryError):
            raise
        except UnreadableFile as fault:
            raise InputError(str(fault)) from fault
        except Exception as fault:  # a transform that does not go with such an input
            raise InputError(f"it cannot be made an input of this model: {reason(fault)}") from fault

    @torch.inference_mode()
    def answer(self, prepared: Sequence[torch.Tensor], top_k: int = 5) -> list[Prediction]:
        """What the model says to prepared inputs, as in the run's evaluations.

        Raises:
            InputError: they do not fit the model, or each other; or the model gives NaN or infinity for one of them.
        """
        if not prepared:
            return []
        finished = self.finished
        amp = AMP_DTYPES.get(finished.config.train.amp)
        try:
            batch = to_device(default_collate(list(prepared)), finished.device)
            with torch.autocast(finished.device.type, amp or torch.bfloat16, enabled=amp is not None):
                output = finished.model(batch)
        except (RuntimeError, ValueError, TypeError, IndexError) as fault:
            shapes = ", ".join(dict.fromkeys(str(list(value.shape)) for value in prepared))
            raise InputError(f"the model cannot take inputs of shape {shapes}: {reason(fault)}") from fault
        return self._told(output, batch, top_k)

    def _told(self, output: Any, batch: torch.Tensor, top_k: int) -> list[Prediction]:
        task = self.finished.task
        if not isinstance(output, torch.Tensor) or output.ndim < 1 or len(output) != len(batch):
            raise InputError("the model's output is no tensor with a row for each input; call it in a script of yours (trainer.finished)")
        if isinstance(task, Regression):
            return [Prediction(values=tuple(row)) for row in _finite(output.double().reshape(len(output), -1)).tolist()]
        if self.inputs.form == "characters" and output.ndim == 3:
            # A language model: what comes after the last character. Ours has the classes before the length; a task of one's own may have
            # them last, which is told by the length, unless there are as many classes.
            ours = isinstance(task, Classification) and type(task).run is Task.run
            length = batch.shape[1]
            output = output[:, :, -1] if ours or (output.shape[2] == length and output.shape[1] != length) else output[:, -1]
        if output.ndim != 2:
            raise InputError(f"the model gives {list(output.shape[1:])} numbers for an input, not one for each class")
        shares = output.double().sigmoid() if isinstance(task, MultiLabel) else output.double().softmax(1)
        best = _finite(shares).topk(min(top_k, shares.shape[1]), dim=1)
        names = self._names(shares.shape[1])
        return [
            Prediction(tuple((names[number], value) for number, value in zip(numbers, values, strict=True)))
            for numbers, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _names(self, count: int) -> list[str]:
        known = self.classes or []
        if count == 1 and len(known) == 2:
            return known[1:]  # one score, for the second class
        return [known[number] if number < len(known) else str(number) for number in range(count)]

    def _image(self, value: Any) -> torch.Tensor:
        """A picture as the data set would give it, and the run's transforms.

        It is brought to the data set's size where they would leave it another one; or where they cut a piece out of it at whatever scale
        it has, if all pictures there are of one size, as those in memory are.
        """
        if isinstance(value, torch.Tensor):
            return self._transformed(value)
        picture = self._picture(value)
        wanted, size = self.inputs.shape, self.inputs.size
        if size is not None and picture.size != size and self._scale_kept and self.inputs.in_memory:
            return self._transformed(self._as_stored(_brought_to(picture, size)))
        prepared: torch.Tensor | None = None
        fault: Exception | None = None
        try:
            prepared = self._transformed(self._as_stored(picture))
        except Exception as problem:  # a transform may want the data set's size
            fault = problem
        fits = prepared is not None and (wanted is None or tuple(prepared.shape) == wanted)
        if not fits and size is not None and picture.size != size:
            prepared = self._transformed(self._as_stored(_brought_to(picture, size)))
        elif fault is not None:
            raise fault
        assert prepared is not None
        return prepared

    def _picture(self, value: Any) -> Any:
        """Any picture with the data set's colours, upright."""
        from PIL import Image

        if isinstance(value, np.ndarray):
            value = Image.fromarray(value)
        if not is_pil(value):
            return self._decode(str(value))
        return self._decode.converted(value)

    def _as_stored(self, picture: Any) -> Any:
        """A picture in the form in which the data set gives it."""
        form = self.inputs.form
        if form in ("pil", "rows"):
            return picture if form == "pil" else np.array(picture)
        pixels = torch.from_numpy(np.array(picture))
        pixels = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels.permute(2, 0, 1).contiguous()
        return pixels if form == "pixels" else pixels.float() / 255

    def _transformed(self, value: Any) -> torch.Tensor:
        """The input behind the transforms, in their form for whole batches where the run's are."""
        if not self.inputs.in_memory:
            found = self._chain(value)
            return found if isinstance(found, torch.Tensor) else torch.as_tensor(found)
        from trainer.data.datasets import ArrayDataset
        from trainer.data.whole_batch import whole_batch

        one = ArrayDataset(value.unsqueeze(0), torch.zeros(1, dtype=torch.int64))
        prepared: torch.Tensor = whole_batch(one, self._transforms)[0][0]
        return prepared

    def _text(self, value: Any) -> torch.Tensor:
        text = str(value)
        if self.inputs.form == "words":
            return self._transformed(word_counts(self._vocabulary(), [text])[0])
        if self.inputs.form == "str":
            return self._transformed(text)
        if not text:
            raise InputError("it is empty; there is nothing that a next character could follow")
        number_of = {character: number for number, character in enumerate(self.classes or [])}
        strange = next((character for character in text if character not in number_of), None)
        if strange is not None:
            raise InputError(f"it has the character {strange!r}, which the run's text has not")
        return self._transformed(torch.tensor([number_of[character] for character in text], dtype=torch.int64))

    def _vocabulary(self) -> list[str]:
        if self._words is None:
            from trainer.data.text import saved_vocabulary

            self._words = saved_vocabulary(str(self.finished.run.vocabulary))[0]
        return self._words

    def _array(self, value: Any) -> torch.Tensor:
        """Numbers of the type that the run's have; bytes in the place of fractions are pictures' (0 … 255 → 0 … 1)."""
        number = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
        if self.inputs.dtype is not None and number.dtype != torch.uint8:
            number = number.to(getattr(torch, self.inputs.dtype))
        elif number.dtype == torch.uint8 and self.inputs.dtype == "float32":
            number = number.float() / 255
        if number.is_floating_point() and not bool(torch.isfinite(number).all()):
            raise InputError("it holds NaN or infinity")
        wanted = self.inputs.shape
        prepared = self._transformed(number)
        if wanted is not None and tuple(prepared.shape) != wanted:
            raise InputError(f"it has shape {list(prepared.shape)}, and the run's inputs have {list(wanted)}")
        return prepared


def _finite(answers: torch.Tensor) -> torch.Tensor:
    """The numbers for some inputs, if they are numbers."""
    for number, good in enumerate(answers.isfinite().all(1).tolist()):
        if not good:
            which = "it" if len(answers) == 1 else f"input {number + 1} of {len(answers)}"
            raise InputError(f"the model gives NaN or infinity for {which}, which is no answer")
    return answers


def _keep_the_scale(transforms: Sequence[Any]) -> bool:
    """Whether all are known to leave a picture's scale as it is; one that is not known may bring any picture to a size."""
    for transform in transforms:
        inner = transform.transforms if isinstance(transform, TransformList) else None
        if not (type(transform).__name__ in _SCALE_KEPT if inner is None else _keep_the_scale(inner)):
            return False
    return True


def _brought_to(picture: Any, size: tuple[int, int]) -> Any:
    """The middle of a picture at a size: made smaller by the mean of what falls together, larger by straight lines between pixels."""
    from PIL import Image, ImageOps

    smaller = picture.width >= size[0] and picture.height >= size[1]
    return ImageOps.fit(picture, size, Image.Resampling.BOX if smaller else Image.Resampling.BILINEAR)
