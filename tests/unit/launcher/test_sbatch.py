"""What follows from a profile, and what Slurm's judgement of a script means."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.profile import Container, Profile
from launcher.sbatch import judge, parameters, python_of

JOBS = Path("/r/my run/slurm")


def test_all_options_follow_from_one_model() -> None:
    profile = Profile(
        nodes=2, gpus_per_node=4, gpu_type="a100", cpus_per_worker=8, memory_gb=0.5, time="1-0", sbatch={"exclusive": True, "hold": False}
    )
    found = parameters(profile, JOBS, "name", 20.5, "/there")
    assert (found["nodes"], found["ntasks_per_node"], found["cpus_per_task"], found["mem"], found["time"]) == (2, 1, 32, "512MB", 1440)
    assert found["additional_parameters"] == {"exclusive": True, "requeue": True, "chdir": "/there", "gpus-per-node": "a100:4"}
    assert found["signal_delay_s"] == 41
    assert "export SRUN_CPUS_PER_TASK=32" in found["setup"]
    assert "partition" not in found


def test_a_job_that_is_not_to_come_again_says_so() -> None:
    assert parameters(Profile(requeue=False), JOBS, "name", 30, None)["additional_parameters"] == {"no-requeue": True}


def test_a_container_starts_python_and_sees_what_is_mounted() -> None:
    apptainer = Container(runtime="apptainer", image="a$b.sif", mounts=("/a", "/b:/c"))
    assert python_of(Profile(container=apptainer, gpus_per_node=1)) == "apptainer exec --nv --bind /a --bind /b:/c 'a$b.sif' python"
    assert "--nv" not in python_of(Profile(container=apptainer))
    pyxis = Profile(container=Container(runtime="pyxis", image="r#x", mounts=("/a", "/b:/c")))
    assert python_of(pyxis) == "python"
    assert parameters(pyxis, JOBS, "name", 30, None)["srun_args"][-2:] == ["--container-image=r#x", "--container-mounts=/a:/a,/b:/c"]


def test_a_container_that_cannot_ask_slurm_leaves_it_to_the_script_outside() -> None:
    found = parameters(Profile(container=Container(runtime="pyxis", image="x")), JOBS, "name", 30, None)
    assert "export OSTINATO_AGAIN='/r/my run/slurm'/again-$SLURM_JOB_ID" in found["setup"]
    assert found["teardown"][-1] == "exit $code"
    assert "teardown" not in parameters(Profile(), JOBS, "name", 30, None)


@pytest.mark.parametrize(
    ("said", "refusal", "doubt"),
    [
        ("allocation failure: Invalid feature specification\n", "Invalid feature specification", False),
        ("sbatch: error: invalid partition: x\nallocation failure: Invalid partition name", "Invalid partition name", False),
        ("sbatch: unrecognized option '--foo=1'\nTry \"sbatch --help\" for more information\n", "unrecognized option '--foo=1'", False),
        ("allocation failure: Requested node configuration is not available", None, True),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", None, False),
        ("sbatch: fatal: Could not establish a configuration source", None, False),
        ("", None, False),
    ],
)  # fmt: skip
def test_a_refusal_is_told_from_a_doubt_and_from_silence(said: str, refusal: str | None, doubt: bool) -> None:
    found = judge(said)
    assert found[0] == refusal
    assert (found[1] is not None) == doubt
