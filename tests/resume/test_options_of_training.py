"""More of the config's options through real training: optimizers, clipping, averages, precision, transforms, how long and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.resume.test_options import HERE, PLAIN, STEPS, plain
from tests.support.exact import fresh, make_config
from tests.support.ranks import run_ranks
from tests.support.training import END, Trained, gradients, in_rank, train, types
from trainer.build import Job
from trainer.config.schema import Config, HardwareSection
from trainer.seed import set_arithmetic

# Every class of torch.optim whose step needs no closure and no sparse gradients, by its name in any spelling.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "Adadelta": {"rho": 0.8},
    "adafactor": {"lr": 0.02},
    "Adagrad": {"lr_decay": 0.1, "initial_accumulator_value": 0.5},
    "adam": {"betas": [0.8, 0.9], "amsgrad": True},
    "Adamax": {"eps": 1e-3},
    "adamw": {"weight_decay": 0.3},
    "ASGD": {"lambd": 0.01},
    "n_adam": {"momentum_decay": 0.1},
    "torch.optim:RAdam": {"weight_decay": 0.1},
    "rmsprop": {"alpha": 0.5, "centered": True},
    "Rprop": {"etas": [0.4, 1.3]},
    "sgd": {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1},
}
CLASSES = {"n_adam": "NAdam", "torch.optim:RAdam": "RAdam", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "sgd": "SGD"} | {
    "adafactor": "Adafactor"
}


def all_optimizers(folder: str) -> dict[str, Trained]:
    """One update by each of them, in this rank."""
    found = {}
    for name, more in OPTIMIZERS.items():
        config = plain(optimizer={"target": name, "lr": 0.05, **more})
        found[name] = in_rank(config, f"{folder}/{name.replace(':', '.')}", 1, gradients)
    return found


def test_an_update_by_any_optimizer_is_torchs_own_with_the_configs_arguments(tmp_path: Path) -> None:
    (found,) = run_ranks(all_optimizers, 1, str(tmp_path))
    for name, more in OPTIMIZERS.items():
        run = found[name]
        parameters = {key: torch.tensor(run.before[key], requires_grad=True) for key in run.told}
        for key, parameter in parameters.items():
            parameter.grad = torch.tensor(run.told[key])
        arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in {"lr": 0.05, **more}.items()}
        getattr(torch.optim, CLASSES.get(name, name))(parameters.values(), **arguments).step()
        for key, parameter in parameters.items():
            np.testing.assert_array_equal(run.after[key], parameter.detach().numpy(), err_msg=f"{name}: {key}")
        assert set(run.told) <= run.moved(), name


def test_gradients_are_clipped_by_norm_or_by_value(tmp_path: Path) -> None:
    free, by_norm, by_value = (
        train(plain(train={"clip": clip}), fresh(tmp_path, f"{n}"), 1, gradients)
        for n, clip in enumerate(({}, {"norm": 0.01}, {"value": 0.001}))
    )
    norm = float(np.sqrt(sum(np.square(value, dtype=np.float64).sum() for value in free.told.values())))
    assert norm > 0.1
    for name, value in free.told.items():
        np.testing.assert_allclose(by_norm.told[name], value * 0.01 / norm, rtol=1e-4, atol=1e-9, err_msg=name)
        np.testing.assert_array_equal(by_value.told[name], value.clip(-0.001, 0.001), err_msg=name)
        np.testing.assert_allclose(by_norm.after[name], by_norm.before[name] - 0.1 * by_norm.told[name], rtol=1e-5, atol=1e-7)
    assert any(np.abs(value).max() > 0.001 for value in free.told.values())


def test_the_moving_average_is_what_is_evaluated_and_trains_nothing(tmp_path: Path) -> None:
    plain_run, slow, quick = (
        train(plain(train={"ema": ema}), fresh(tmp_path, f"{n}")) for n, ema in enumerate((None, {"decay": 0.9}, {"decay": 1e-7}))
    )
    assert plain_run.of("train", "loss") == slow.of("train", "loss") == quick.of("train", "loss")
    assert all(one != two for one, two in zip(plain_run.of("valid", "loss"), slow.of("valid", "loss"), strict=True))
    np.testing.assert_allclose(quick.of("valid", "loss"), plain_run.of("valid", "loss"), rtol=1e-5)


@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_a_narrow_type_is_what_the_model_answers_in(tmp_path: Path, amp: str) -> None:
    config = plain(model={"target": f"{HERE}:Casting"}, train={"epochs": 1, "amp": amp})
    dtype = {"none": "torch.float32", "bf16": "torch.bfloat16"}[amp]
    run = train(config, fresh(tmp_path, "run"), END, types)
    assert run.told == {("training", dtype), ("evaluation", dtype)}
    assert run.after["12.weight"].dtype == np.float32


def test_a_run_ends_after_max_steps_and_evaluates_as_often_as_asked(tmp_path: Path) -> None:
    short = train(plain(train={"max_steps": STEPS + 1}), fresh(tmp_path, "short"))
    assert len(short.of("train", "loss")) == STEPS + 1
    assert [row["step"] for row in short.rows if row["split"] == "valid"] == [STEPS, STEPS + 1]
    rare = train(plain(train={"epochs": 5, "evaluate_every": 2}), fresh(tmp_path, "rare"))
    assert [row["epoch"] for row in rare.rows if row["split"] == "valid"] == [2, 4, 5], "every second, and the last"


def first_inputs(job: Job) -> list[float]:
    """The mean of the first input of each set, as training and evaluation read it."""
    return [float(dataset[0][0].mean()) for dataset in (job.train_set, job.valid, job.test) if dataset is not None]


def shift(by: float) -> dict[str, Any]:
    return {"target": "Normalize", "mean": [by], "std": [1.0]}


@pytest.mark.parametrize("share", [False, True])
def test_the_two_lists_of_transforms_belong_to_training_and_to_evaluation(tmp_path: Path, share: bool) -> None:
    zeros = {"target": f"{HERE}:Zeros"}
    lists = {"train_transforms": [shift(1.0)], "eval_transforms": [shift(2.0), shift(3.0)]}
    split = {"valid_fraction": 0.25} if share else {"valid": zeros}
    base = make_config(3).model_dump(exclude_none=True)
    config = Config.model_validate({**base, "data": {"train": zeros, "test": zeros, "batch_size": 24, **split, **lists}})
    assert train(config, fresh(tmp_path, "run"), 1, first_inputs).told == [-1.0, -5.0, -5.0]


def switches(hardware: HardwareSection, threads: int) -> list[Any]:
    set_arithmetic(hardware, threads)
    cudnn, deterministic = torch.backends.cudnn, torch.are_deterministic_algorithms_enabled()
    tf32 = [cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]
    return [torch.get_num_threads(), deterministic, cudnn.deterministic, cudnn.benchmark, *tf32]


@pytest.mark.parametrize(
    ("options", "position", "value"),
    [
        ({"deterministic": False}, 1, False),
        ({"cudnn_deterministic": False}, 2, False),
        ({"deterministic": False, "cudnn_benchmark": True}, 3, True),
        ({"tf32": True}, 4, True),
        ({"tf32": True}, 5, True),
    ],
    ids=lambda value: "",
)
def test_a_switch_of_the_hardware_is_set(options: dict[str, bool], position: int, value: bool) -> None:
    (usual,) = run_ranks(switches, 1, HardwareSection(), 1)
    assert usual == [1, True, True, False, False, False]
    (found,) = run_ranks(switches, 1, HardwareSection(**options), 2)  # type: ignore[arg-type]
    assert found[0] == 2
    assert found[position] is value


def test_the_seed_is_that_of_the_weights_the_order_and_what_is_drawn(tmp_path: Path) -> None:
    runs = [
        train(Config.model_validate({**plain(optimizer=PLAIN).model_dump(), "seed": seed}), fresh(tmp_path, f"{n}"), 1)
        for n, seed in enumerate((3, 3, 4))
    ]
    assert runs[0].rows == runs[1].rows
    assert all(np.array_equal(runs[0].after[name], value) for name, value in runs[1].after.items())
    assert not np.array_equal(runs[0].before["0.weight"], runs[2].before["0.weight"])
    assert runs[0].of("train", "loss") != runs[2].of("train", "loss")
