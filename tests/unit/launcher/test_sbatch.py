"""What follows from a profile, and what Slurm's judgement of a script means."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from launcher.profile import Container, Profile
from launcher.requeue import REQUEUE_WITHIN_S
from launcher.sbatch import OTHERS_END_WITHIN_S, executor, judge, parameters, python_of, script
from launcher.slurm_query import ANSWER_WITHIN_S

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
    assert parameters(Profile(memory_gb=0), JOBS, "name", 30, None)["mem"] == "0"
    assert "mem" not in parameters(Profile(), JOBS, "name", 30, None)


def test_no_node_is_ended_while_the_first_one_may_still_ask_slurm_to_queue_the_job_again() -> None:
    assert f"--wait={OTHERS_END_WITHIN_S}" in parameters(Profile(nodes=2), JOBS, "name", 30, None)["srun_args"]
    # To be known, to be queued, and to be seen in the queue; each time the last answers may be slow ones.
    assert OTHERS_END_WITHIN_S > 3 * (REQUEUE_WITHIN_S + 2 * ANSWER_WITHIN_S)


def test_a_job_without_slurm_is_told_of_its_end_early_enough_to_save_and_not_before_half_of_its_time(tmp_path: Path) -> None:
    made = [executor(Profile(executor="local", time=time), tmp_path, "name", 120, None) for time in (60, 6)]
    assert [one.parameters["signal_delay_s"] for one in made] == [240, 180]


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
    assert found["setup"][-1].startswith("export OSTINATO_TIME_LEFT=")
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


@pytest.fixture
def turn(tmp_path: Path) -> Path:
    """A folder of commands: those of Slurm, of which srun ends as a job in a container that asks for one more turn."""
    again = f"echo 0 SIGUSR2 > {tmp_path}/slurm/again-$SLURM_JOB_ID"
    commands = {"srun": f"echo $OSTINATO_TIME_LEFT > {tmp_path}/left; {again}; exit 75", "sleep": "", "scontrol": ""}
    for name, text in {**commands, "squeue": 'case "$*" in *%L) echo 1:00:00;; *) echo RUNNING;; esac'}.items():
        put(tmp_path, name, text)
    (tmp_path / "slurm").mkdir()
    return tmp_path


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/asked\n{text}\n')
    (folder / name).chmod(0o755)


def end_of(turn: Path, **array: str) -> tuple[int, str, int]:
    """How the script of a job, or of one task of an array, ends, what it says, and how often it has asked to be queued again."""
    boxed = Profile(setup=("set -eu",), container=Container(runtime="apptainer", image="x.sif"))
    text = script(boxed, turn / "slurm", "name", 30, None)
    variables = {"PATH": f"{turn}:/usr/bin:/bin", "SLURM_JOB_ID": "7", **array}
    own = "7_" + array["SLURM_ARRAY_TASK_ID"] if array else "7"
    done = subprocess.run(["bash", "-c", text], env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout, (turn / "asked").read_text().count(f"scontrol requeue {own}\n")


def test_a_setup_that_ends_at_the_first_fault_does_not_keep_a_job_in_a_container_from_its_next_turn(turn: Path) -> None:
    assert end_of(turn) == (75, "", 1)
    asked_at, left = (turn / "left").read_text().split()
    assert asked_at.isdecimal()
    assert left == "1:00:00"


def test_the_task_that_has_the_number_of_its_array_asks_for_itself_alone(turn: Path) -> None:
    all_of_them = 'case "$*" in *%L) echo 1:00:00; echo 0:30:00;; *) echo RUNNING; echo PENDING;; esac'
    one = 'case "$*" in *%L) echo 0:30:00;; *) echo RUNNING;; esac'
    put(turn, "squeue", f'case "$*" in *--jobs=7_3\\ *) {one};; *) {all_of_them};; esac')
    assert end_of(turn, SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="3") == (75, "", 1)
    assert (turn / "left").read_text().split()[1:] == ["0:30:00"]


def test_a_slurm_that_does_not_answer_once_is_asked_again(turn: Path) -> None:
    put(turn, "scontrol", f"[ -e {turn}/there ] || {{ touch {turn}/there; exit 1; }}")
    assert end_of(turn) == (75, "", 2)


@pytest.mark.parametrize("silent", ["squeue", "scontrol"])
def test_one_that_never_answers_is_said_in_one_line(turn: Path, silent: str) -> None:
    put(turn, silent, "exit 1")
    code, said, _ = end_of(turn)
    assert (code, said) == (75, "could not be queued again as job 7; submit it again to go on\n")


def test_a_job_that_slurm_is_ending_asks_for_nothing(turn: Path) -> None:
    put(turn, "squeue", "echo COMPLETING")
    assert end_of(turn) == (75, "", 0)
