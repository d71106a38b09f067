"""On what an evaluation computes: never silently on another kind of device than the run's config asks for."""

from __future__ import annotations

import pytest

from launcher.evaluate import device_for
from trainer.errors import ConfigError


@pytest.mark.parametrize(
    ("wanted", "asked", "gpus", "found"),
    [
        ("cpu", None, 2, (1, "cpu")),
        ("auto", None, 0, (1, "cpu")),
        ("auto", 3, 0, (3, "cpu")),
        ("auto", None, 2, (2, "cuda")),
        ("cuda", None, 2, (2, "cuda")),
        ("cuda", 1, 2, (1, "cuda")),
    ],
)
def test_each_worker_gets_what_the_config_says_and_nothing_has_to_be_said(
    wanted: str, asked: int | None, gpus: int, found: tuple[int, str]
) -> None:
    assert device_for(wanted, asked, 0 if wanted == "cpu" else gpus) == (*found, "")


def test_more_workers_than_gpus_are_refused_where_the_config_asks_for_gpus() -> None:
    with pytest.raises(ConfigError, match=r"^command line: --nproc-per-node=3: 1 GPU here, and hardware\.device is cuda; start at most 1$"):
        device_for("cuda", 3, 1)


def test_where_it_is_left_open_they_go_to_the_cpu_and_that_is_said() -> None:
    workers, device, said = device_for("auto", 3, 2)
    assert (workers, device) == (3, "cpu")
    assert "2 GPUs here for 3 workers: evaluated on the CPU" in said
    assert "--nproc-per-node 2 is on the GPUs" in said


def test_a_run_of_a_gpu_is_evaluated_without_one_and_that_is_said() -> None:
    workers, device, said = device_for("cuda", 2, 0)
    assert (workers, device) == (2, "cpu")
    assert "no GPU here, and hardware.device is cuda: evaluated on the CPU" in said
