import io

import pytest
import torch
from torch import nn

from trainer.errors import CheckpointError
from trainer.models.simple import CNN, MLP
from trainer.optim.ema import Ema


def trained(model: nn.Module, ema: Ema | None, steps: int) -> None:
    """Some real updates, of one fixed sequence."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        inputs = torch.randn(8, 1, 8, 8, generator=generator)
        targets = torch.randint(10, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        if ema is not None:
            ema.update(model)


def cnn() -> CNN:
    torch.manual_seed(0)
    return CNN(1, 10, width=4)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_average_follows_its_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    values = [1.0, 2.0, -3.0, 0.5]
    with torch.no_grad():
        model.weight.fill_(values[0])
    ema, expected = Ema(model, decay=0.9), values[0]
    for value in values[1:]:
        with torch.no_grad():
            model.weight.fill_(value)
        ema.update(model)
        expected = 0.9 * expected + 0.1 * value
    assert ema.state_dict()["parameters"]["weight"].item() == pytest.approx(expected, rel=1e-6)


def test_buffers_are_those_of_the_last_update() -> None:
    model = cnn()
    ema = Ema(model, decay=0.99)
    trained(model, ema, steps=3)
    assert same(ema.state_dict()["buffers"], dict(model.named_buffers()))


def test_two_equal_trainings_have_bitwise_equal_averages() -> None:
    shadows = []
    for _ in range(2):
        model = cnn()
        ema = Ema(model, decay=0.99)
        trained(model, ema, steps=5)
        shadows.append(ema.state_dict()["parameters"])
    assert same(*shadows)


def test_averaging_does_not_disturb_training() -> None:
    alone, watched = cnn(), cnn()
    trained(alone, None, steps=5)
    trained(watched, Ema(watched, decay=0.9), steps=5)
    assert same(alone.state_dict(), watched.state_dict())


def test_inside_the_block_the_model_has_the_average_and_after_it_its_own_bits() -> None:
    model = cnn()
    ema = Ema(model, decay=0.9)
    trained(model, ema, steps=3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = [p.data_ptr() for p in model.parameters()]
    with ema.swapped_in(model):
        assert same(dict(model.named_parameters()), ema.state_dict()["parameters"])
        assert not same(dict(model.named_parameters()), {k: before[k] for k in ema.state_dict()["parameters"]})
    assert same(model.state_dict(), before)
    assert tensors == [p.data_ptr() for p in model.parameters()]


def test_an_error_inside_the_block_still_gives_the_weights_back() -> None:
    model = cnn()
    ema = Ema(model, decay=0.5)
    trained(model, ema, steps=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ZeroDivisionError), ema.swapped_in(model):
        raise ZeroDivisionError
    assert same(model.state_dict(), before)


def test_narrow_weights_are_averaged_in_float32() -> None:
    model = MLP(4, 2, hidden=3).to(torch.bfloat16)
    ema = Ema(model, decay=0.9999)
    start = {name: value.clone() for name, value in ema.state_dict()["parameters"].items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    ema.update(model)
    for name, value in ema.state_dict()["parameters"].items():
        assert value.dtype == torch.float32
        assert (value > start[name]).all()  # a change of 1e-4, which bfloat16 would have lost
    with ema.swapped_in(model):
        assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def test_a_resumed_average_goes_on_with_the_same_bits() -> None:
    model = cnn()
    ema = Ema(model, decay=0.9)
    trained(model, ema, steps=2)
    file = io.BytesIO()
    torch.save({"ema": ema.state_dict(), "model": model.state_dict()}, file)
    trained(model, ema, steps=3)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = CNN(1, 10, width=4)
    other = Ema(resumed, decay=0.9)
    resumed.load_state_dict(saved["model"])
    other.load_state_dict(saved["ema"])
    trained(resumed, other, steps=3)
    assert same(other.state_dict()["parameters"], ema.state_dict()["parameters"])
    assert same(other.state_dict()["buffers"], ema.state_dict()["buffers"])


def test_another_models_state_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"layers\.1\.\w+ is \(5.*in the checkpoint, \(3"):
        Ema(MLP(4, 2, hidden=3), 0.9).load_state_dict(Ema(MLP(4, 2, hidden=5), 0.9).state_dict())
    with pytest.raises(CheckpointError, match=r"bias is missing in the checkpoint, \(2"):
        Ema(nn.Linear(4, 2), 0.9).load_state_dict(Ema(nn.Linear(4, 2, bias=False), 0.9).state_dict())


def test_a_model_without_parameters_has_an_empty_average() -> None:
    model = nn.Flatten()
    ema = Ema(model, decay=0.9)
    ema.update(model)
    with ema.swapped_in(model):
        assert ema.state_dict() == {"parameters": {}, "buffers": {}}
