"""Every option of the config does what it says, through real training: each test fails if the option did nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.exact import fresh, make_config
from tests.support.noisy import NoisyNet
from tests.support.ranks import RankFailed, run_ranks
from tests.support.training import END, Trained, calls, in_rank, seen_targets, train
from trainer.build import Job
from trainer.checkpoint import store
from trainer.config.schema import Config
from trainer.rundir import RunDir, read_json

HERE = "tests.support.training"
PLAIN = {"target": "sgd", "lr": 0.1}  # an update is lr times the gradient: rates can be read off the weights
FIRST, NORM, HEAD = {"0.weight"}, {"1.weight", "1.bias"}, {"12.weight", "12.bias"}
STATISTICS = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
STEPS = 4  # an epoch's updates


def plain(**sections: Any) -> Config:
    """The noisy job without momentum, clipping, averages and warm-up."""
    train_section = {"epochs": 3, "virtual_ranks": 3, "clip": {}, "ema": None, **sections.pop("train", {})}
    base = {"optimizer": PLAIN, "schedule": {"target": "constant"}, "log": {"every_steps": 1}}
    return make_config(3, **{**base, **sections}, train=train_section)  # type: ignore[arg-type]


def with_lists(config: Config, **lists: list[dict[str, Any]]) -> Config:
    """The same with the config's lists (`groups`, `freeze`)."""
    return Config.model_validate({**config.model_dump(), **lists})


def moves(run: Trained) -> dict[str, Any]:
    return {name: run.after[name] - run.before[name] for name in run.after if run.after[name].dtype == np.float32}


def test_a_group_moves_at_its_own_rate(tmp_path: Path) -> None:
    ordinary = train(plain(), fresh(tmp_path, "one"), 1)
    grouped = train(with_lists(plain(), groups=[{"match": "head", "lr": 1.0}]), fresh(tmp_path, "two"), 1)
    one, two = moves(ordinary), moves(grouped)
    for name in one:
        factor = 10.0 if name in HEAD else 1.0
        np.testing.assert_allclose(two[name], factor * one[name], rtol=1e-4, atol=1e-6, err_msg=name)
        assert np.abs(one[name]).max() > 0
    assert grouped.of("train", "lr/head") == [1.0]
    assert grouped.of("train", "lr/rest") == [0.1]


def test_a_group_without_weight_decay_has_none(tmp_path: Path) -> None:
    decayed = plain(optimizer={**PLAIN, "weight_decay": 0.5})
    one = train(decayed, fresh(tmp_path, "one"), 1)
    two = train(with_lists(decayed, groups=[{"match": ["norms", "biases"], "weight_decay": 0.0}]), fresh(tmp_path, "two"), 1)
    spared = [name for name, _ in NoisyNet().named_parameters() if name.startswith(("1.", "5.")) or name.endswith("bias")]
    for name, value in two.after.items():
        back = 0.1 * 0.5 * one.before[name] if name in spared else 0.0
        np.testing.assert_allclose(value, one.after[name] + back, rtol=1e-4, atol=1e-6, err_msg=name)
    assert all(np.abs(one.before[name]).max() > 0 for name in ("1.weight", "12.bias"))


def test_what_is_frozen_stands_still_until_its_epoch_with_its_statistics(tmp_path: Path) -> None:
    frozen = with_lists(plain(), freeze=[{"match": ["0.*", "1.*"], "until_epoch": 1}])
    before = train(frozen, fresh(tmp_path, "before"), STEPS - 1)
    still = FIRST | NORM | STATISTICS
    assert set(before.after) - before.moved() == still
    after = train(frozen, fresh(tmp_path, "after"), STEPS + 2)
    assert still <= after.moved()
    loose = with_lists(plain(), freeze=[{"match": ["0.*", "1.*"], "statistics": False}])
    end = train(loose, fresh(tmp_path, "loose"))
    assert set(end.after) - end.moved() == FIRST | NORM
    feature = with_lists(plain(optimizer={**PLAIN, "weight_decay": 0.1, "momentum": 0.9}), freeze=[{"match": "*", "but": "head"}])
    assert train(feature, fresh(tmp_path, "feature")).moved() == HEAD


def test_a_model_of_which_nothing_trains_at_first_is_refused(tmp_path: Path) -> None:
    rules = [{"match": "*", "but": "head", "until_epoch": 1}, {"match": "head", "until_epoch": 2}]
    with pytest.raises(RankFailed, match="freeze: no parameter trains before epoch 1; leave one free from the beginning"):
        train(with_lists(plain(), freeze=rules), fresh(tmp_path, "none"), 1)
    with pytest.raises(RankFailed, match="no parameter trains before epoch 2"):
        train(with_lists(plain(), freeze=[{"match": "*", "but": "head"}, {"match": "head", "until_epoch": 2}]), fresh(tmp_path, "late"), 1)


def test_weights_begin_as_start_says(tmp_path: Path) -> None:
    theirs = NoisyNet().state_dict()
    save_file(theirs, str(tmp_path / "theirs.safetensors"))
    init = [{"target": "constant", "match": "biases", "val": 0.25}, {"target": "orthogonal_", "match": "9.weight"}]
    begun = train(plain(start={"init": init}), fresh(tmp_path, "init"), 1)
    assert all((value == 0.25).all() for name, value in begun.before.items() if name.endswith("bias"))
    np.testing.assert_allclose(begun.before["9.weight"] @ begun.before["9.weight"].T, np.eye(64), atol=1e-5)
    loaded = train(
        plain(start={"init": init, "pretrained": str(tmp_path / "theirs.safetensors"), "skip": "head"}), fresh(tmp_path, "loaded"), 1
    )
    for name, value in theirs.items():
        if name == "12.bias":
            assert (loaded.before[name] == 0.25).all()
        assert np.array_equal(loaded.before[name], value.numpy()) is (name not in HEAD), name
    save_file({**theirs, "12.weight": torch.ones(7, 64)}, str(tmp_path / "other.safetensors"))
    other = {"pretrained": str(tmp_path / "other.safetensors")}
    with pytest.raises(RankFailed, match=r"12\.weight: \(7, 64\) there, \(4, 64\) in the model"):
        train(plain(start=other), fresh(tmp_path, "strict"), 1)
    partly = train(plain(start={**other, "strict": False}), fresh(tmp_path, "partly"), 1)
    assert {name for name in theirs if not np.array_equal(partly.before[name], theirs[name].numpy())} == {"12.weight"}


def test_weights_can_come_from_another_run(tmp_path: Path) -> None:
    first = train(plain(train={"epochs": 1}), fresh(tmp_path, "first"))
    again = train(plain(start={"pretrained": fresh(tmp_path, "first")}), fresh(tmp_path, "again"), 1)
    assert all(np.array_equal(again.before[name], value) for name, value in first.after.items())
    assert again.moved()


@pytest.mark.parametrize("change", ["mixup", "cutmix", "mixup_or_cutmix"])
def test_mixed_batches_have_mixed_targets_and_train_otherwise(tmp_path: Path, change: str) -> None:
    base = make_config(3).data.model_dump(exclude_none=True)
    loss = {"target": f"{HERE}:Seeing"}
    unmixed = train(plain(loss=loss), fresh(tmp_path, "unmixed"), 1, seen_targets)
    mixed = train(
        plain(loss=loss, data={**base, "batch_transforms": [{"target": change, "num_classes": 4}]}), fresh(tmp_path, "m"), 1, seen_targets
    )
    shares = np.concatenate(mixed.told)
    assert shares.shape == (48, 4)
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-6)
    assert ((shares > 0) & (shares < 1)).any(1).sum() > 10, "nothing was mixed"
    hard = np.eye(4)[np.concatenate(unmixed.told)].reshape(3, 16, 4)
    before = np.roll(hard, 1, axis=1)
    assert ((shares.reshape(3, 16, 4) > 0) <= (hard + before > 0)).all(), "a target is its own and the one before it"
    assert not np.array_equal(mixed.after["0.weight"], unmixed.after["0.weight"])


def swa_weights(job: Job) -> dict[str, np.ndarray]:
    assert job.state.swa is not None
    assert job.state.swa.count == 2
    with job.state.swa.swapped_in(job.state.model):
        return {name: value.clone().numpy() for name, value in job.state.model.state_dict().items()}


def test_the_stochastic_average_is_the_mean_of_the_epochs_ends_and_is_what_is_evaluated(tmp_path: Path) -> None:
    ends = [train(plain(), fresh(tmp_path, f"end{n}"), n * STEPS) for n in (2, 3)]
    ordinary = train(plain(), fresh(tmp_path, "plain"))
    averaged = train(plain(train={"swa": {"start_epoch": 1}}), fresh(tmp_path, "swa"), ask=swa_weights)
    for name, _ in NoisyNet().named_parameters():
        mean = (ends[0].after[name] + ends[1].after[name]) / 2
        np.testing.assert_allclose(averaged.told[name], mean, rtol=1e-5, atol=1e-6, err_msg=name)
    one, two = ordinary.of("valid", "loss"), averaged.of("valid", "loss")
    assert one[0] == two[0]
    assert one[2] != two[2]
    assert ordinary.of("train", "loss") == averaged.of("train", "loss")


def test_the_learning_rate_is_scaled_with_the_batch(tmp_path: Path) -> None:
    scaled = with_lists(plain(train={"lr_for_batch": 24}), groups=[{"match": "head", "lr": 0.5}])
    run = train(scaled, fresh(tmp_path, "run"), 1)
    assert run.of("train", "lr/head") == [1.0]
    assert run.of("train", "lr/rest") == [0.2]


def test_recomputed_activations_cost_a_second_pass_and_change_no_bit(tmp_path: Path) -> None:
    model = {"target": f"{HERE}:Counting"}
    kept = train(plain(model=model), fresh(tmp_path, "kept"), STEPS, calls)
    again = train(plain(model=model, train={"recompute": ["0", "4"]}), fresh(tmp_path, "again"), STEPS, calls)
    assert (kept.told, again.told) == (3 * STEPS, 6 * STEPS)
    assert all(np.array_equal(kept.after[name], value) for name, value in again.after.items())


def in_channels_last(job: Job) -> bool:
    weight = job.state.model.get_parameter("4.weight")
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()


def test_channels_last_is_another_order_in_memory_and_the_same_training(tmp_path: Path) -> None:
    one = train(plain(), fresh(tmp_path, "one"), 2, in_channels_last)
    two = train(plain(train={"channels_last": True}), fresh(tmp_path, "two"), 2, in_channels_last)
    assert (one.told, two.told) == (False, True)
    for name, value in one.after.items():
        np.testing.assert_allclose(two.after[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


def graphs(job: Job) -> int:
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_a_compiled_model_is_compiled_and_trains_as_the_other(tmp_path: Path) -> None:
    data = {"train": {"target": "digits"}, "batch_size": 48}
    model = {"target": "mlp", "in_features": 64, "num_classes": 10, "hidden": 8}
    runs = [
        train(plain(model=model, data=data, train={"compile": on, "virtual_ranks": 1}), fresh(tmp_path, f"{on}"), 2, graphs)
        for on in (False, True)
    ]
    assert runs[0].told == 0
    assert runs[1].told > 0
    assert runs[0].moved() == runs[1].moved() == set(runs[0].after)
    for name, value in runs[0].after.items():
        np.testing.assert_allclose(runs[1].after[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def sets(job: Job) -> tuple[list[int], list[int], list[int]]:
    rest, share = job.train_set.dataset, job.valid.dataset  # type: ignore[union-attr]  # below their transforms
    return rest.indices.tolist(), share.indices.tolist(), np.bincount(share.targets, minlength=4).tolist()


def test_a_share_of_the_training_set_is_kept_for_validation_from_each_class_alike(tmp_path: Path) -> None:
    data = {"train": {"target": "tests.support.noisy:NoisyImages"}, "batch_size": 48, "valid_fraction": 0.25}
    config = {**make_config(3).model_dump(exclude_none=True), "data": data}
    found = [
        train(Config.model_validate({**config, "data": {**data, **more}}), fresh(tmp_path, f"{n}"), 5, sets)
        for n, more in enumerate(({}, {"stratified": True}, {"split_seed": 1}))
    ]
    (rest, share, _), (_, _, balanced), (_, other, _) = (run.told for run in found)
    assert sorted(rest + share) == list(range(200))
    assert len(share) == 50
    assert share != other
    everything = np.bincount(torch.randint(4, (200,), generator=_after_images()).numpy(), minlength=4)
    assert np.abs(np.array(balanced) - everything / 4).max() <= 1
    assert len(found[0].of("valid", "loss")) == 1


def _after_images() -> torch.Generator:
    """Where `NoisyImages` draws its classes from."""
    generator = torch.Generator().manual_seed(1)
    torch.randn(200, 1, 8, 8, generator=generator)
    return generator


def best(job: Job) -> tuple[float | None, int]:
    return job.state.best, job.state.step


def test_a_task_of_ones_own_measures_and_any_metric_can_be_watched(tmp_path: Path) -> None:
    task = {"target": f"{HERE}:Stubborn"}
    for monitor, choose in (("f1", max), ("falling", min), ("loss", min)):
        run = train(plain(task=task, train={"monitor": monitor}), fresh(tmp_path, monitor), ask=best)
        assert len(run.of("valid", monitor)) == 3
        assert run.told[0] == choose(run.of("valid", monitor))
    assert len(set(run.of("valid", "zeros"))) == 1
    turned = train(plain(task=task, train={"monitor": "loss", "monitor_mode": "max"}), fresh(tmp_path, "max"), ask=best)
    assert turned.told[0] == max(turned.of("valid", "loss"))
    with pytest.raises(RankFailed, match="the validation has no 'f2'; it has accuracy, f1, falling, flat, loss, zeros"):
        run_ranks(tried_out, 1, plain(task=task, train={"monitor": "f2"}))


def tried_out(config: Config) -> None:
    from trainer import build, distributed, loop

    loop.try_out(build.build(config, distributed.join(config.hardware)))


def test_training_stops_early_when_the_watched_metric_stands_still(tmp_path: Path) -> None:
    stop = {"epochs": 6, "early_stop": {"patience": 2}}
    task = {"target": f"{HERE}:Stubborn"}
    flat = train(plain(task=task, train={**stop, "monitor": "flat"}), fresh(tmp_path, "flat"), ask=best)
    falling = train(plain(task=task, train={**stop, "monitor": "falling"}), fresh(tmp_path, "falling"), ask=best)
    small = {"monitor": "falling", "early_stop": {"patience": 2, "min_delta": 1.5}, "epochs": 6}
    too_little = train(plain(task=task, train=small), fresh(tmp_path, "small"), ask=best)
    # Steps of 1 are below 1.5, two of them are not: every second evaluation counts as one, so that it never waits for two.
    assert (flat.told[1], falling.told[1], too_little.told[1]) == (3 * STEPS, 6 * STEPS, 6 * STEPS)
    assert too_little.told[0] == min(too_little.of("valid", "falling")), "the margin is for the patience, not for the best checkpoint"


@pytest.mark.parametrize("workers", [1, 3])
def test_a_stop_while_the_averages_statistics_are_computed_is_heard_at_once_and_changes_nothing(tmp_path: Path, workers: int) -> None:
    averaged = plain(train={"swa": {"start_epoch": 1}})
    whole = run_ranks(in_rank, workers, averaged, fresh(tmp_path, "whole"), END, None)[0]
    parts = fresh(tmp_path, "parts")
    run_ranks(in_rank, workers, averaged, parts, 2 * STEPS, None)  # after an epoch's last update, and before its end
    left = run_ranks(in_rank, workers, averaged, parts, 2 * STEPS, how_far_the_average_is)[0]
    assert left.told == (1, 0), "one epoch in the mean, and left before the first batch"
    rest = run_ranks(in_rank, workers, averaged, parts, END, None)[0]
    assert rest.rows == whole.rows
    assert set(rest.after) == set(whole.after)
    assert all(np.array_equal(value, whole.after[name]) for name, value in rest.after.items())


def how_far_the_average_is(job: Job) -> tuple[int, int]:
    """The epochs in it, and the batches that its statistics are of."""
    assert job.state.swa is not None
    return job.state.swa.count, int(job.state.swa.state_dict()["buffers"]["1.num_batches_tracked"])


def test_the_best_checkpoint_is_the_best_however_little_it_is_better(tmp_path: Path) -> None:
    section = {"epochs": 8, "monitor": "loss", "early_stop": {"patience": 3, "min_delta": 50.0}}
    whole = train(plain(train=section), fresh(tmp_path, "whole"), ask=best)
    losses = whole.of("valid", "loss")
    assert len(losses) == 4  # only the first one counts for the patience
    assert whole.told == (min(losses), 4 * STEPS)
    assert min(losses) < losses[0], "nothing is shown otherwise"
    pointed = read_json(RunDir(fresh(tmp_path, "whole")).checkpoints / "best.json")
    assert pointed["value"] == min(losses)
    assert store.step_of(pointed["checkpoint"]) == (losses.index(min(losses)) + 1) * STEPS
    train(plain(train=section), fresh(tmp_path, "parts"), 2 * STEPS + 1)
    parts = train(plain(train=section), fresh(tmp_path, "parts"), ask=best)
    assert parts.rows == whole.rows, "what counts for the patience is kept through a resume"


def test_a_checkpoint_from_before_the_best_and_the_counted_value_were_two_still_loads() -> None:
    assert run_ranks(loaded_without_counted, 1, plain()) == [0.75]


def loaded_without_counted(config: Config) -> float | None:
    from trainer import build, distributed

    job = build.build(config, distributed.join(config.hardware))
    job.state.best = 0.75
    saved = job.state.state_dict(job.world)
    del saved["counted"]
    job.state.load_state_dict(saved, job.update.leaves)
    return job.state.counted
