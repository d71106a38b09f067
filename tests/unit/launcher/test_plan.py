import pytest

from launcher.plan import asked_workers, choose_workers, make_job, run_folder
from trainer.config.checks import divisors
from trainer.config.schema import Config
from trainer.errors import ConfigError


def config(**sections):
    base = {
        "model": {"target": "mlp"},
        "data": {"train": {"target": "digits"}, "batch_size": 64},
        "optimizer": {"target": "sgd"},
        "train": {"epochs": 1},
    }
    return Config.model_validate({**base, **sections})


def job(config, workers=2, cpus=8, environ=None):
    return make_job(config, "configs/digits.yaml", ["seed=1"], workers=workers, cpus=cpus, environ=environ or {}, fresh=False)


@pytest.mark.parametrize(("text", "number"), [("auto", None), ("1", 1), ("16", 16)])
def test_the_number_of_workers_is_auto_or_a_number(text, number):
    assert asked_workers(text) == number


@pytest.mark.parametrize("text", ["0", "-2", "", "two", "2.0", "²", "1e2"])
def test_anything_else_is_an_error_that_says_so(text):
    with pytest.raises(ConfigError, match=r"^command line: --nproc-per-node=.*: must be auto or a whole number >= 1$"):
        asked_workers(text)


@pytest.mark.parametrize(
    ("asked", "devices", "ranks", "chosen"),
    [
        (None, 0, None, 1),
        (None, 4, None, 4),
        (None, 0, 8, 1),
        (None, 4, 8, 4),
        (None, 3, 8, 2),  # a device was lost: the run goes on with as many as fit
        (None, 16, 8, 8),
        (2, 0, None, 2),
        (2, 8, 8, 2),
        (8, 0, 8, 8),
    ],
)
def test_auto_takes_a_worker_for_each_device_as_far_as_they_share_the_virtual_ranks(asked, devices, ranks, chosen):
    assert choose_workers(asked, devices, ranks) == chosen


def test_a_number_that_does_not_divide_the_virtual_ranks_is_refused_with_all_that_do():
    with pytest.raises(ConfigError, match=r"--nproc-per-node=5: cannot share 12 virtual ranks evenly; use one of 1, 2, 3, 4, 6, 12$"):
        choose_workers(5, 0, 12)


def test_divisors_are_all_and_ascending():
    assert divisors(12) == [1, 2, 3, 4, 6, 12]
    assert divisors(1) == [1]


def test_a_run_is_named_by_its_config_file_unless_it_has_a_name():
    assert run_folder(config(), "configs/digits.yaml") == "runs/digits"
    assert run_folder(config(run={"name": "third", "root": "/scratch/me"}), "configs/digits.yaml") == "/scratch/me/third"


def test_workers_share_the_processors_unless_the_config_says_how_many():
    assert job(config(), workers=2, cpus=8).env["OMP_NUM_THREADS"] == "4"
    assert job(config(), workers=3, cpus=2).env["OMP_NUM_THREADS"] == "1"
    assert job(config(hardware={"threads": 5})).env["OMP_NUM_THREADS"] == "5"


def test_workers_of_one_machine_meet_on_its_loopback_unless_the_user_chose_an_interface():
    assert job(config()).env["GLOO_SOCKET_IFNAME"] in ("lo", "lo0")
    assert job(config(), environ={"GLOO_SOCKET_IFNAME": "eth7"}).env["GLOO_SOCKET_IFNAME"] == "eth7"


def test_a_job_reads_well_and_holds_plain_types():
    made = job(config())
    assert made.workers == 2
    assert "configs/digits.yaml seed=1" in made.as_text()
    assert "python -m trainer runs/digits" in made.as_text()
    assert made.as_json()["overrides"] == ("seed=1",)
