"""Transforms of a whole training micro-batch, inputs and targets: they mix samples with each other.

They run in the training step, in front of the forward pass, and draw from torch's CPU generator, which is seeded by (seed, step, virtual
rank): the same bits on any number of workers, and nothing waits for a GPU. A sample's partner is the one before it in the micro-batch:
the order is random as it is, so no permutation is drawn. In a micro-batch of one sample there is nothing to mix.

Targets become soft: float32 (n, classes), one row a sample, rows add up to 1. ``cross_entropy`` takes them, label smoothing included.
"""

from __future__ import annotations

import torch

from trainer.errors import TrainingError

Batch = tuple[torch.Tensor, torch.Tensor]


class MixUp:
    """``mixup``: each input becomes lam·itself + (1 − lam)·its partner, and its target likewise (Zhang et al. 2018, arXiv:1710.09412).

    Args:
        alpha: lam ~ Beta(alpha, alpha), drawn once a micro-batch: 0.2 mixes little, 1.0 any share alike.
        num_classes: the width of the targets; left out, the run sets the model's, or the training set's.
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        self.num_classes = num_classes
        self._share = _beta("mixup", alpha)

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> Batch:
        """Mix one micro-batch: inputs float (n, …); targets int64 (n,) or soft, float (n, classes)."""
        _see_inputs("mixup", inputs, 1)
        soft = soft_targets("mixup", targets, self.num_classes)
        share = float(self._share.sample())
        return _mixed(inputs, share), _mixed(soft, share)


class CutMix:
    """``cutmix``: a rectangle of each image is its partner's, the target mixed by area (Yun et al. 2019, arXiv:1905.04899).

    Args:
        alpha: the share of the image that stays ~ Beta(alpha, alpha), drawn once a micro-batch, before the rectangle is cut at the border.
        num_classes: the width of the targets; left out, the run sets the model's, or the training set's.
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None) -> None:
        self.num_classes = num_classes
        self._share = _beta("cutmix", alpha)

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> Batch:
        """Mix one micro-batch: inputs float (n, …, height, width); targets int64 (n,) or soft, float (n, classes)."""
        _see_inputs("cutmix", inputs, 3)
        soft = soft_targets("cutmix", targets, self.num_classes)
        side = (1.0 - float(self._share.sample())) ** 0.5
        height, width = inputs.shape[-2:]
        rows, columns = _stretch(height, side), _stretch(width, side)
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        inputs = inputs.clone()
        inputs[..., rows, columns] = inputs[..., rows, columns].roll(1, 0)
        return inputs, _mixed(soft, 1.0 - area / (height * width))


class MixUpOrCutMix:
    """``mixup_or_cutmix``: one of the two for each micro-batch.

    Args:
        mixup_alpha: see `MixUp`.
        cutmix_alpha: see `CutMix`.
        cutmix_share: how often it is CutMix: 0.5 is half of the time.
        num_classes: the width of the targets; left out, the run sets the model's, or the training set's.
    """

    def __init__(
        self, mixup_alpha: float = 0.2, cutmix_alpha: float = 1.0, cutmix_share: float = 0.5, num_classes: int | None = None
    ) -> None:
        if not 0 <= cutmix_share <= 1:
            raise ValueError(f"cutmix_share is {cutmix_share}; it must be between 0 and 1")
        self.num_classes = num_classes
        self.mixup, self.cutmix, self.cutmix_share = MixUp(mixup_alpha), CutMix(cutmix_alpha), cutmix_share

    def __call__(self, inputs: torch.Tensor, targets: torch.Tensor) -> Batch:
        """Mix one micro-batch: inputs float (n, …, height, width); targets int64 (n,) or soft, float (n, classes)."""
        chosen = self.cutmix if float(torch.rand(())) < self.cutmix_share else self.mixup
        return chosen(inputs, soft_targets("mixup_or_cutmix", targets, self.num_classes))


def soft_targets(name: str, targets: torch.Tensor, num_classes: int | None) -> torch.Tensor:
    """Targets as shares of classes, float32 (n, classes); soft ones as they are. A label that is no class is a row of zeros.

    Args:
        name: who asks, for messages.
        targets: int64 (n,), or float (n, classes).
        num_classes: how many; None: not known.

    Raises:
        TrainingError: they are neither, or the number of classes is not known.
    """
    if targets.ndim == 2 and targets.is_floating_point():
        return targets
    if targets.ndim != 1 or targets.dtype != torch.int64:
        kind = f"{str(targets.dtype).removeprefix('torch.')} {list(targets.shape)}"
        raise TrainingError(f"batch transform {name}: it mixes classes, and the targets are {kind}; leave it out of this task")
    if num_classes is None:
        raise TrainingError(f"batch transform {name}: the number of classes is not known; write num_classes beside it")
    return (targets.unsqueeze(1) == torch.arange(num_classes, device=targets.device)).float()


def _see_inputs(name: str, inputs: object, dimensions: int) -> None:
    """Refuse what cannot be mixed: one tensor of numbers that are not whole can."""
    if isinstance(inputs, torch.Tensor) and inputs.is_floating_point() and inputs.ndim >= dimensions:
        return
    tensor = isinstance(inputs, torch.Tensor)
    found = f"{str(inputs.dtype).removeprefix('torch.')} {list(inputs.shape)}" if tensor else type(inputs).__name__  # type: ignore[attr-defined]
    wanted = "float tensors" if dimensions == 1 else "float images (n, channels, height, width)"
    raise TrainingError(f"batch transform {name}: it takes {wanted}, and the inputs are {found}; leave it out of this task")


def _mixed(values: torch.Tensor, share: float) -> torch.Tensor:
    """`share` of each row and the rest of the one before it."""
    return values * share + values.roll(1, 0) * (1.0 - share)


def _beta(name: str, alpha: float) -> torch.distributions.Beta:
    if not alpha > 0:
        raise ValueError(f"alpha of {name} is {alpha}; it must be above 0")
    concentration = torch.tensor(float(alpha), dtype=torch.float64, device="cpu")
    return torch.distributions.Beta(concentration, concentration, validate_args=False)


def _stretch(length: int, share: float) -> slice:
    """A part of 0 … length around a random place, of `share` of its length, cut at both ends."""
    half = int(length * share) // 2
    centre = int(torch.randint(0, length, ()))
    return slice(max(centre - half, 0), min(centre + half, length))
