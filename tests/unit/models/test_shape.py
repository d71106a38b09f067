"""How a model is computed changes neither its names nor, where it is promised, its bits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.unit.models.training import copies, images, moved, train
from trainer.config.schema import TrainSection
from trainer.errors import ConfigError
from trainer.models.shape import recompute, shape_up
from trainer.models.simple import CNN, MLP

CPU = torch.device("cpu")


class Wandering(nn.Module):
    """Its output depends on a buffer that each forward pass moves, and on what is drawn at random."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.mean = 0.5 * self.mean + 0.5 * x.mean().detach()
        found: Tensor = self.drop(self.norm(self.conv((x - self.mean) * scale)).relu())
        return found


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.first = Wandering()
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.3))
        self.last = nn.Linear(4, 3)
        self.second.register_forward_pre_hook(lambda module, inputs: None)
        self.second[0].register_forward_hook(self._count)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.second(self.first(x, scale=2.0)).mean((2, 3)))
        return found

    def _count(self, *_: Any) -> None:
        self.calls += 1


def section(**settings: Any) -> TrainSection:
    return TrainSection(epochs=1, **settings)


def model() -> Model:
    torch.manual_seed(0)
    return Model()


@pytest.mark.parametrize("patterns", ["*", "first", ["second", "first.conv"], "second.[01]"])
def test_what_is_computed_again_gives_the_same_bits_with_dropout_norms_and_moving_buffers(patterns: Any) -> None:
    plain, saving = model(), model()
    assert recompute(saving, patterns)
    for each in (plain, saving):
        train(each, torch.optim.SGD(each.parameters(), lr=0.1, momentum=0.9), steps=4)
    assert moved(saving, copies(plain)) == set()


def test_it_is_computed_again_in_training_and_only_there() -> None:
    plain, saving = model(), model()
    recompute(saving, "second")
    for each in (plain, saving):
        each(images()).sum().backward()
    assert (plain.calls, saving.calls) == (1, 2)
    with torch.no_grad():
        saving(images())
    assert saving.calls == 3


def test_it_keeps_less_for_the_backward_pass() -> None:
    def kept(each: nn.Module) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            each(images())
        return sum(sizes)

    plain, saving = model(), model()
    recompute(saving, ["first", "second"])
    assert kept(saving) < kept(plain) / 2


def test_a_module_that_changes_its_input_cannot_be_computed_again() -> None:
    saving = model()
    recompute(saving, "second.*")
    with pytest.raises(ConfigError, match=r"^train\.recompute: second\.2 \(ReLU\) changes its input in place"):
        saving(images())


def test_names_stay_and_a_copy_works_by_itself() -> None:
    plain, saving = model(), model()
    recompute(saving, "*")
    assert list(saving.state_dict()) == list(plain.state_dict())
    twin = copy.deepcopy(saving)
    train(twin, torch.optim.SGD(twin.parameters(), lr=0.1))
    assert moved(saving, copies(plain)) == set()
    train(plain, torch.optim.SGD(plain.parameters(), lr=0.1))
    assert moved(twin, copies(plain)) == set()


def test_autocast_holds_in_the_second_pass_as_well() -> None:
    plain, saving = model(), model()
    recompute(saving, "second")
    for each in (plain, saving):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            loss = each(images()).float().square().mean()
        loss.backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)


def test_images_and_convolutions_are_kept_in_channels_last_memory() -> None:
    torch.manual_seed(0)
    plain, fast = (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)) for _ in range(2))
    fast.load_state_dict(plain.state_dict())
    fast = shape_up(fast, section(channels_last=True), CPU)
    inputs = torch.randn(2, 3, 8, 8)
    assert fast[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not fast[0].weight.is_contiguous()
    output = fast(inputs)
    assert output.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output, plain(inputs))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, where it imports its compiler
def test_a_compiled_model_keeps_its_names_and_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = torch.compiler.is_compiling  # what runs inside a compiled function knows it

    class Knowing(MLP):
        compiled = False

        def forward(self, x: Tensor) -> Tensor:
            if compiled():
                Knowing.compiled = True
            return super().forward(x)

    torch.manual_seed(0)
    plain = Knowing(4, 2, hidden=3)
    inputs = torch.randn(2, 4)
    expected = plain(inputs)
    assert not Knowing.compiled
    names = list(plain.state_dict())
    fast = shape_up(plain, section(compile=True), CPU)
    assert list(fast.state_dict()) == names
    torch._dynamo.reset()
    torch.testing.assert_close(fast(inputs), expected)
    assert Knowing.compiled


def test_sync_batchnorm_needs_cuda() -> None:
    with pytest.raises(ConfigError, match=r"^train\.sync_batchnorm: it needs CUDA"):
        shape_up(model(), section(sync_batchnorm=True), CPU)
    shaped = shape_up(model(), section(sync_batchnorm=True), torch.device("cuda"))
    assert isinstance(shaped.get_submodule("second.1"), nn.SyncBatchNorm)
    assert list(shaped.state_dict()) == list(model().state_dict())


def test_recompute_and_compile_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match=r"^train\.recompute: .*leave out one of the two$"):
        shape_up(model(), section(recompute="first", compile=True), CPU)


def test_the_section_recomputes_what_it_names() -> None:
    shaped = shape_up(model(), section(recompute=["second"]), CPU)
    shaped(images()).sum().backward()
    assert isinstance(shaped, Model)
    assert shaped.calls == 2


def test_without_a_word_the_model_stays_as_it_is() -> None:
    given = CNN(1, 3, width=2)
    assert shape_up(given, section(), CPU) is given
    assert "forward" not in given.features.__dict__
