"""MixUp and CutMix: what they do to a micro-batch, and that it is a function of (seed, step, virtual rank) alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from tests.support.exact import make_config
from trainer.build import batch_transforms
from trainer.config.schema import Target
from trainer.data.arrays import Arrays
from trainer.data.batch_transforms import CutMix, MixUp, MixUpOrCutMix
from trainer.errors import TrainingError
from trainer.registry import resolve
from trainer.seed import seed_micro_batch

CPU = torch.device("cpu")


def batch(n: int = 8, classes: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that tell their sample and their pixel, each of its own class."""
    pixels = torch.arange(12 * 10).view(1, 1, 12, 10) / 1000
    return (torch.arange(n).view(n, 1, 1, 1) + pixels).expand(n, 3, 12, 10).contiguous(), torch.arange(n) % classes


def share_of(soft: torch.Tensor) -> float:
    """How much of each sample is its own; all samples of a micro-batch have the same share, and the one before them the rest."""
    own, partner = soft.diagonal(), soft.roll(-1, 0).diagonal()
    torch.testing.assert_close(own, own[:1].expand(len(own)))
    torch.testing.assert_close(own + partner, torch.ones(len(own)))
    return float(own[0])


def test_mixup_mixes_inputs_and_targets_by_one_share() -> None:
    inputs, targets = batch()
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, soft = MixUp(1.0, 8)(inputs, targets)
        share = share_of(soft)
        assert 0 < share < 1
        torch.testing.assert_close(mixed, share * inputs + (1 - share) * inputs.roll(1, 0))
        assert soft.dtype == torch.float32
    assert torch.equal(inputs, batch()[0])  # the caller's batch is untouched


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_the_share_has_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    inputs, targets = torch.zeros(2, 1), torch.arange(2)
    drawn = torch.tensor([float(MixUp(alpha, 2)(inputs, targets)[1][0, 0]) for _ in range(2000)])
    # The first two moments of Beta(alpha, alpha), within about four standard errors.
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(float(drawn.mean()) - 0.5) < 4 * (variance / 2000) ** 0.5
    assert abs(float(drawn.var()) / variance - 1) < 0.12


def test_cutmix_pastes_a_rectangle_and_mixes_the_targets_by_its_area() -> None:
    inputs, targets = batch()
    shares = []
    for seed in range(100):
        torch.manual_seed(seed)
        mixed, soft = CutMix(1.0, 8)(inputs, targets)
        pasted = (mixed != inputs).all(1)
        assert torch.equal(pasted, pasted[:1].expand_as(pasted))  # the same place in every image
        place = pasted[0]
        assert place.sum() == place.any(0).sum() * place.any(1).sum()  # it is a rectangle
        assert torch.equal(mixed[:, :, place], inputs.roll(1, 0)[:, :, place])
        assert torch.equal(mixed[:, :, ~place], inputs[:, :, ~place])
        shares.append(share_of(soft))
        assert shares[-1] == pytest.approx(1 - int(place.sum()) / 120, abs=1e-6)
    assert min(shares) < 0.4
    assert max(shares) > 0.9
    assert torch.equal(inputs, batch()[0])


def test_the_loss_of_mixed_targets_is_the_mix_of_the_losses() -> None:
    inputs, targets = batch()
    torch.manual_seed(3)
    _, soft = MixUp(1.0, 8)(inputs, targets)
    share, scores = share_of(soft), torch.randn(8, 8)
    expected = share * cross_entropy(scores, targets) + (1 - share) * cross_entropy(scores, targets.roll(1, 0))
    torch.testing.assert_close(cross_entropy(scores, soft), expected)


def test_one_of_the_two_is_chosen_for_each_micro_batch() -> None:
    inputs, targets = batch()
    torch.manual_seed(0)
    both = MixUpOrCutMix(mixup_alpha=8.0, cutmix_alpha=1.0, cutmix_share=0.25, num_classes=8)
    cut = 0
    for _ in range(400):
        mixed, _ = both(inputs, targets)
        whole_pixels = (mixed[:, :, None] == torch.stack([inputs, inputs.roll(1, 0)], 2)).any(2).all()
        cut += bool(whole_pixels)  # every pixel is one sample's or the other's
    assert 70 < cut < 130


@pytest.mark.parametrize("transform", [MixUp(0.4, 8), CutMix(num_classes=8), MixUpOrCutMix(num_classes=8)])
def test_a_micro_batch_is_mixed_alike_whoever_plays_its_virtual_rank(transform: Any) -> None:
    inputs, targets = batch(32)

    def played(world: int, step: int) -> torch.Tensor:
        """The four virtual ranks' inputs and targets, of a job of so many workers, each of which has drawn other things before."""
        parts = []
        for rank in range(world):
            torch.manual_seed(1000 + rank)
            for leaf in range(rank * 4 // world, (rank + 1) * 4 // world):
                seed_micro_batch(7, step, leaf, CPU)
                mine = slice(leaf * 8, leaf * 8 + 8)
                mixed, soft = transform(inputs[mine], targets[mine])
                parts.append(torch.cat([mixed.flatten(1), soft], 1))
        return torch.cat(parts)

    expected = played(1, 5)
    assert torch.equal(played(2, 5), expected)
    assert torch.equal(played(4, 5), expected)
    assert not torch.equal(played(1, 6), expected)
    first, second = expected[:8, -8:], expected[8:16, -8:]
    assert not torch.equal(first, second)  # each virtual rank has its own share


def test_soft_targets_are_mixed_further() -> None:
    inputs, targets = batch()
    torch.manual_seed(0)
    once = MixUp(1.0, 8)(inputs, targets)
    torch.manual_seed(1)
    twice = MixUp(1.0)(*once)
    torch.manual_seed(1)
    share = share_of(MixUp(1.0, 8)(inputs, targets)[1])
    torch.testing.assert_close(twice[1], share * once[1] + (1 - share) * once[1].roll(1, 0))
    torch.testing.assert_close(twice[1].sum(1), torch.ones(8))


def test_a_label_that_the_loss_leaves_out_adds_nothing() -> None:
    inputs, targets = batch()
    targets[2] = -100
    torch.manual_seed(0)
    _, soft = MixUp(1.0, 8)(inputs, targets)
    share = float(soft[0, 0])
    torch.testing.assert_close(soft[2], (1 - share) * one_hot(torch.tensor(1), 8).float())


def test_a_micro_batch_of_one_is_left_as_it_is() -> None:
    inputs, targets = batch(1)
    for transform in (MixUp(num_classes=8), CutMix(num_classes=8)):
        mixed, soft = transform(inputs, targets)
        torch.testing.assert_close(mixed, inputs)
        torch.testing.assert_close(soft, one_hot(targets, 8).float())


def test_they_have_short_names() -> None:
    assert [resolve("batch_transform", name) for name in ("mixup", "cutmix", "mixup_or_cutmix")] == [MixUp, CutMix, MixUpOrCutMix]


@pytest.mark.parametrize(
    ("transform", "inputs", "targets", "message"),
    [
        (MixUp(), torch.rand(2, 3), torch.arange(2), "mixup: the number of classes is not known; write num_classes beside it"),
        (MixUp(num_classes=3), torch.rand(2, 3), torch.rand(2), r"mixup: it mixes classes, and the targets are float32 \[2\]"),
        (CutMix(num_classes=3), torch.rand(2, 3), torch.arange(2), r"cutmix: it takes float images .* the inputs are float32 \[2, 3\]"),
        (MixUp(num_classes=3), torch.arange(2), torch.arange(2), r"mixup: it takes float tensors, and the inputs are int64 \[2\]"),
        (MixUp(num_classes=3), [torch.rand(2)], torch.arange(2), "the inputs are list; leave it out of this task"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_one_line(transform: Any, inputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        transform(inputs, targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan")])
def test_an_alpha_that_has_no_distribution_is_refused(alpha: float) -> None:
    for kind in (MixUp, CutMix):
        with pytest.raises(ValueError, match="must be above 0"):
            kind(alpha)
    with pytest.raises(ValueError, match=r"cutmix_share is 1\.5; it must be between 0 and 1"):
        MixUpOrCutMix(cutmix_share=1.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_mixes_as_the_cpu_does() -> None:
    device = torch.device("cuda", 0)
    inputs, targets = batch()
    torch.use_deterministic_algorithms(True)
    try:
        for transform in (MixUp(num_classes=8), CutMix(num_classes=8), MixUpOrCutMix(num_classes=8)):
            results = []
            for where in (CPU, device, device):
                seed_micro_batch(1, 2, 3, where)
                results.append([part.cpu() for part in transform(inputs.to(where), targets.to(where))])
            for cpu, first, second in zip(*results, strict=True):
                assert torch.equal(first, second)
                torch.testing.assert_close(first, cpu)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_models_classes_come_before_those_that_the_labels_happen_to_have() -> None:
    digits = make_config(3).data.model_dump(exclude_none=True)
    config = make_config(
        3, model={"target": "mlp", "in_features": 64, "num_classes": 12}, data={**digits, "batch_transforms": [{"target": "mixup"}]}
    )
    (change,) = batch_transforms(config, Arrays(torch.zeros(4, 2), torch.tensor([0, 1, 2, 1]), ["0", "1", "2"]))
    assert change.num_classes == 12
    unsaid = config.model_copy(update={"model": Target(target="tests.support.noisy:NoisyNet")})
    (change,) = batch_transforms(unsaid, Arrays(torch.zeros(4, 2), torch.tensor([0, 1, 2, 1]), ["0", "1", "2"]))
    assert change.num_classes == 3
