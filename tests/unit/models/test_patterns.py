"""Names with stars and words find parameters; what finds nothing is an error with what was probably meant."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.unit.models.empty import empty
from tests.unit.models.user_model import Theirs
from trainer.errors import ConfigError
from trainer.models import resnet
from trainer.models.patterns import Patterns, match, modules_matching
from trainer.models.simple import MLP

RESNET = empty(lambda: resnet.resnet18(num_classes=10))
NAMES = [name for name, _ in RESNET.named_parameters()]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("*", NAMES),
        ("fc.*", ["fc.weight", "fc.bias"]),
        ("conv1.weight", ["conv1.weight"]),
        (["fc.bias", "conv1.*"], ["conv1.weight", "fc.bias"]),
        ("layer?.0.conv1.*", [f"layer{n}.0.conv1.weight" for n in (1, 2, 3, 4)]),
        ("norms", [name for name in NAMES if "bn" in name or "downsample.1" in name]),
        ("biases", [name for name in NAMES if name.endswith(".bias")]),
        ("head", ["fc.weight", "fc.bias"]),
    ],
)
def test_a_pattern_finds_what_fits_in_the_models_order(patterns: Patterns, expected: list[str]) -> None:
    assert match(RESNET, patterns, "freeze.0") == expected


def test_but_leaves_out() -> None:
    assert match(RESNET, "*", "freeze.0", but="head") == [name for name in NAMES if not name.startswith("fc.")]
    assert match(RESNET, "layer4.1.*", "freeze.0", but=["norms"]) == ["layer4.1.conv1.weight", "layer4.1.conv2.weight"]


def test_norms_are_known_by_their_class_also_a_users() -> None:
    assert match(Theirs(), "norms", "groups.0") == ["stem.1.weight", "stem.1.bias", "norm.gain"]
    assert match(nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.RMSNorm(2), nn.Linear(2, 2)), "norms", "x") == [
        *("0.weight", "0.bias", "1.weight", "1.bias", "2.weight")
    ]


def test_biases_include_those_of_attention_and_recurrent_layers() -> None:
    assert match(nn.MultiheadAttention(4, 2), "biases", "x") == ["in_proj_bias", "out_proj.bias"]
    attention = nn.MultiheadAttention(4, 2, add_bias_kv=True)
    assert match(nn.ModuleDict({"mix": attention}), "biases", "x") == [
        f"mix.{name}" for name in ("in_proj_bias", "bias_k", "bias_v", "out_proj.bias")
    ]
    lstm = nn.LSTM(3, 4, bidirectional=True)
    assert match(lstm, "biases", "x") == ["bias_ih_l0", "bias_hh_l0", "bias_ih_l0_reverse", "bias_hh_l0_reverse"]
    unbiased = nn.Module()
    unbiased.unbiased = nn.Parameter(torch.zeros(1))  # type: ignore[assignment]
    unbiased.bias_free = nn.Linear(2, 2)  # type: ignore[assignment]
    assert match(unbiased, "biases", "x") == ["bias_free.bias"]


def test_a_shared_parameter_is_found_by_each_of_its_names() -> None:
    assert match(Theirs(), "again.*", "x") == ["again.weight", "again.bias"]


@pytest.mark.parametrize(
    ("patterns", "but", "message"),
    [
        ("layr1.*", (), r"^freeze\.0\.match: 'layr1\.\*' is the name of no parameter \(did you mean 'layer1\.\*'\?\)$"),
        ("layer1", (), r"'layer1' is the name of no parameter \(did you mean 'layer1\.\*'\?\)$"),
        ("norm", (), r"\(did you mean 'norms'\?\)$"),
        (
            ["fc.*", "xyz"],
            (),
            r"^freeze\.0\.match: 'xyz' is .*; the model's parameters are conv1\.weight, bn1\.weight, bn1\.bias, … \(62 in all\)$",
        ),
        ("fc.*", "fc.wait", r"^freeze\.0\.but: 'fc\.wait' is .*\(did you mean 'fc\.weight'\?\)$"),
        ("fc.*", "head", r"^freeze\.0: all that it matches is left out again; "),
        ("*\n*", (), r"^freeze\.0\.match: '[^\n]*' is the name of no parameter[^\n]*$"),
    ],
)
def test_what_finds_nothing_is_one_line_with_a_near_name(patterns: Patterns, but: Patterns, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        match(RESNET, patterns, "freeze.0", but)
    assert "\n" not in str(error.value)


def test_a_word_may_find_nothing_where_another_pattern_finds_something() -> None:
    assert match(MLP(2, 2, hidden=[]), ["norms", "biases"], "groups.0") == ["layers.1.bias"]
    with pytest.raises(ConfigError, match=r"^groups\.0: the model has none of norms; "):
        match(MLP(2, 2), "norms", "groups.0")


def test_modules_are_found_from_the_outside() -> None:
    assert modules_matching(RESNET, "layer[12]*", "train.recompute") == ["layer1", "layer2"]
    assert modules_matching(RESNET, ["layer1.*", "fc"], "train.recompute") == ["layer1.0", "layer1.1", "fc"]
    with pytest.raises(ConfigError, match=r"^train\.recompute: 'layr1' is the name of no module \(did you mean 'layer1'\?\)$"):
        modules_matching(RESNET, ["fc", "layr1"], "train.recompute")


def test_what_is_found_depends_on_names_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    match(RESNET, ["norms", "head", "layer1.*"], "x")
    assert torch.equal(before, torch.get_rng_state())
