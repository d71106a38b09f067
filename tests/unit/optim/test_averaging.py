"""Stochastic weight averaging equals torch's own, and resumes with the same bits."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, update_bn

from trainer.errors import CheckpointError
from trainer.models.simple import CNN, MLP
from trainer.optim.averaging import Swa, update_statistics


def cnn(dropout: float = 0.0) -> CNN:
    torch.manual_seed(0)
    return CNN(1, 10, width=4, dropout=dropout)


def batches(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 1, 8, 8, generator=generator) for _ in range(count)]


def move(model: nn.Module, epoch: int) -> None:
    """What an epoch does to the weights."""
    generator = torch.Generator().manual_seed(epoch)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def copies(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_mean_and_its_statistics_are_those_of_torchs_own_averaged_model() -> None:
    model = cnn()
    mine, theirs = Swa(model), AveragedModel(model)
    for epoch in range(5):
        move(model, epoch)
        mine.update(model)
        theirs.update_parameters(model)
    mine.refresh(model, batches())
    update_bn(batches(), theirs)
    with mine.swapped_in(model):
        torch.testing.assert_close(copies(model), dict(theirs.module.state_dict()))


def test_the_mean_follows_its_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    swa, values = Swa(model), [1.0, 2.0, -3.0, 0.5]
    for value in values:
        nn.init.constant_(model.weight, value)
        swa.update(model)
    assert swa.count == 4
    with swa.swapped_in(model):
        assert model.weight.item() == pytest.approx(sum(values) / 4, rel=1e-6)
    assert model.weight.item() == 0.5


def test_before_its_first_epoch_it_leaves_the_model_as_it_is() -> None:
    model = cnn()
    swa = Swa(model)
    move(model, 0)
    before = copies(model)
    swa.refresh(model, batches())
    with swa.swapped_in(model):
        assert same(copies(model), before)


def test_refreshing_leaves_the_model_itself_and_its_modes_alone() -> None:
    model = cnn()
    swa = Swa(model)
    swa.update(model)
    move(model, 1)
    before = copies(model)
    model.train()
    model.features[0].eval()
    modes = [module.training for module in model.modules()]
    swa.refresh(model, batches())
    assert same(copies(model), before)
    assert modes == [module.training for module in model.modules()]
    assert all(module.momentum == 0.1 for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def test_statistics_are_plain_means_over_the_batches_and_draw_nothing_at_random() -> None:
    model = cnn(dropout=0.5)
    seen: list[Tensor] = []
    model.features[0][0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    update_statistics(model, batches())
    assert torch.equal(torch.get_rng_state(), state)
    mean = torch.stack([output.mean((0, 2, 3)) for output in seen]).mean(0)
    variance = torch.stack([output.var((0, 2, 3)) for output in seen]).mean(0)
    torch.testing.assert_close(model.features[0][1].running_mean, mean)
    torch.testing.assert_close(model.features[0][1].running_var, variance)


def test_frozen_statistics_stay() -> None:
    model = cnn()
    before = copies(model)
    update_statistics(model, batches(), keep={"features.0.1"})
    moved = {name for name, value in copies(model).items() if not torch.equal(value, before[name])}
    assert {name.rpartition(".")[0] for name in moved} == {"features.1.1", "features.3.1", "features.4.1"}


def test_a_model_without_batchnorm_reads_no_batch() -> None:
    def never() -> Tensor:
        raise AssertionError("read")

    update_statistics(MLP(4, 2), (never() for _ in range(1)))


def test_narrow_weights_are_averaged_in_float32() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    swa = Swa(model)
    for value in (1.0, 1.0, 1.0078125):
        nn.init.constant_(model.weight, value)
        swa.update(model)
    mean = swa.state_dict()["parameters"]["weight"]
    assert mean.dtype == torch.float32
    assert mean.item() == pytest.approx(1.0026042, rel=1e-6)  # which bfloat16 would round to 1


def test_a_resumed_mean_goes_on_with_the_same_bits() -> None:
    model = cnn()
    swa, other = Swa(model), Swa(cnn())
    for epoch in range(2):
        move(model, epoch)
        swa.update(model)
    swa.refresh(model, batches())
    file = io.BytesIO()
    torch.save(swa.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert other.count == 2
    for each in (swa, other):
        resumed = cnn()
        resumed.load_state_dict(model.state_dict())
        move(resumed, 2)
        each.update(resumed)
    for kind in ("parameters", "buffers", "count"):
        assert same(swa.state_dict()[kind], other.state_dict()[kind])


def test_another_models_mean_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"layers\.1\.\w+ is \(5.*in the checkpoint, \(3"):
        Swa(MLP(4, 2, hidden=3)).load_state_dict(Swa(MLP(4, 2, hidden=5)).state_dict())
