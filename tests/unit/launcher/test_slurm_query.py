"""What Slurm's commands print is read as what it means, and a Slurm that is not there or does not answer holds nobody up."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher import slurm_query
from launcher.slurm_query import RUNNING, WAITING, SlurmJob, ask, details, parse_sacct, parse_scontrol, parse_squeue, present, seconds

SQUEUE = """4_3|PENDING||1|5:00|5:00|main|JobArrayTaskLimit
3|PENDING||1|UNLIMITED|UNLIMITED|low|Nodes required for job are DOWN, DRAINED or reserved | for others
2|RUNNING|n[1-2]|2|365-00:00:00|364-23:59:59|main|None\t/a b/c|d/x.sh
1|NODE_FAIL||2|1:30:00|INVALID|main|None\t(null)
squeue: something else
"""
SCONTROL = (
    "JobId=4 ArrayJobId=4 ArrayTaskId=3 JobName=a b.sh JobState=PENDING Reason=JobArrayTaskLimit Dependency=(null) Requeue=1 "
    "Restarts=2 BatchFlag=1 ExitCode=0:0 RunTime=00:00:00 TimeLimit=00:05:00 Partition=main NodeList= NumNodes=1-1 CPUs/Task=1\n"
    "JobId=2 JobName=b UserId=root(0) JobState=RUNNING Reason=None Restarts=0 RunTime=00:01:00 TimeLimit=1-00:00:00 Partition=main "
    "ReqNodeList=(null) NodeList=n[1-2] NumNodes=2\n"
)
SACCT = """7|CANCELLED by 1000|None assigned|1|UNLIMITED|main
7.batch|CANCELLED|n1|1||
8|PREEMPTED|n1|1|00:10:00|low
8|COMPLETED|n2|1|00:10:00|low
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH, besides the shell's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    for name in ("squeue", "sacct", "scontrol"):
        put(folder, name, "exit 1")
    return folder


def put(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_squeues_lines_are_read_with_a_separator_in_the_reason_and_other_lines_between() -> None:
    array, held, running, lost = parse_squeue(SQUEUE)
    assert array == SlurmJob("4_3", "PENDING", "JobArrayTaskLimit", "", 1, 300, 300, "main")
    assert held.reason == "Nodes required for job are DOWN, DRAINED or reserved | for others"
    assert held.limit_s is None
    assert running == SlurmJob("2", "RUNNING", "", "n[1-2]", 2, 365 * 86400, 365 * 86400 - 1, "main", script="/a b/c|d/x.sh")
    assert (lost.reason, lost.script) == ("", "")
    assert (array.waits, running.runs, lost.lives) == (True, True, False)


def test_scontrol_tells_an_arrays_task_its_restarts_and_the_time_left() -> None:
    task, job = parse_scontrol(SCONTROL)
    assert task == SlurmJob("4_3", "PENDING", "JobArrayTaskLimit", "", 1, 300, 300, "main", 2)
    assert job == SlurmJob("2", "RUNNING", "", "n[1-2]", 2, 86400, 86340, "main", 0)


def test_sacct_tells_of_jobs_and_not_of_their_steps_and_the_newest_line_counts() -> None:
    cancelled, done = parse_sacct(SACCT)
    assert cancelled == SlurmJob("7", "CANCELLED", "", "", 1, None, None, "main")
    assert done == SlurmJob("8", "COMPLETED", "", "n2", 1, 600, None, "low")


def test_sacct_tells_of_an_arrays_tasks_that_never_began_in_one_line() -> None:
    rest = "|None assigned|1|UNLIMITED|main\n"
    jobs = parse_sacct(f"5_3|FAILED{rest}5_[0,2-4%2]|CANCELLED by 0{rest}6_[1]|PENDING{rest}7_[1,...]|PENDING{rest}8_[2-6:2]|PENDING{rest}")
    assert {job.job_id: job.state for job in jobs} == {
        "5_0": "CANCELLED", "5_2": "CANCELLED", "5_3": "FAILED", "5_4": "CANCELLED", "6_1": "PENDING", "7_1": "PENDING",
        "8_2": "PENDING", "8_4": "PENDING", "8_6": "PENDING",
    }  # fmt: skip


def test_a_job_of_the_same_number_whose_script_lies_elsewhere_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(tmp_path)
    for job_id in ("12", "12_3"):
        submission = {"job_id": job_id, "log": f"{tmp_path}/r/../slurm/{job_id}/{job_id}_0_log.out"}
        for script, ours in {
            f"{tmp_path}/slurm/.submission_file_0a.sh": True,
            f"{tmp_path}/linked/slurm/.submission_file_0a.sh": True,
            "": True,  # not said
            f"{tmp_path}/slurm/deeper/.submission_file_0a.sh": False,
            "/disk/me/other.sh": False,
            "bash": False,
        }.items():
            job = SlurmJob(job_id, "RUNNING", script=script)
            answer = slurm_query.Answer({job_id: job}, asked=True)
            assert answer.of(submission) == (job if ours else None), script
            assert answer.of({"job_id": job_id}) == job  # written down by hand
        assert answer.of({}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0:07", 7), ("5:00", 300), ("1:30:00", 5400), ("2-03:00:00", 183600), ("UNLIMITED", None), ("INVALID", None), ("", None)],
)
def test_slurms_times_are_read_in_seconds(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


def test_a_job_waits_or_runs_and_never_both() -> None:
    assert not WAITING & RUNNING


def test_a_machine_without_slurm_knows_nothing_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not present()
    assert ask(["1"]) == slurm_query.Answer()
    assert details("1") is None


def test_commands_without_a_cluster_are_no_slurm_either(commands: Path) -> None:
    put(commands, "squeue", "echo 'squeue: fatal: Could not establish a configuration source' >&2; exit 1")
    assert ask(["1"]) == slurm_query.Answer()


def test_a_slurm_that_does_not_answer_is_one_line_of_warning(commands: Path) -> None:
    put(commands, "squeue", "echo 'squeue: error: tried' >&2; echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    answer = ask(["1"])
    assert (answer.jobs, answer.asked) == ({}, False)
    assert answer.warning == "Slurm does not answer (slurm_load_jobs error: Unable to contact slurm controller)"


def test_a_slurm_that_takes_too_long_is_not_waited_for(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_query, "ANSWER_WITHIN_S", 0.2)
    put(commands, "squeue", "exec sleep 60")
    assert ask(["1"]).warning == "Slurm does not answer (squeue has not answered within 0.2 s)"


def test_all_jobs_are_asked_for_in_one_call_and_a_users_own_format_does_not_count(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    put(commands, "squeue", f'echo "$@ [$SQUEUE_FORMAT$SQUEUE_STATES]" >> {commands}/asked\necho "1|RUNNING|n1|1|5:00|4:00|main|None"')
    answer = ask(["1", "2_3"])
    (line,) = (commands / "asked").read_text().splitlines()
    assert "--jobs=1,2_3" in line
    assert line.endswith("[]")
    assert answer.asked
    assert set(answer.jobs) == {"1"}


def test_accounting_is_asked_for_what_the_queue_has_forgotten_where_it_answers(commands: Path) -> None:
    put(commands, "squeue", 'echo "1|RUNNING|n1|1|5:00|4:00|main|None"')
    put(commands, "sacct", f'echo "$@" >> {commands}/asked\necho "2_3|FAILED|n1|1|00:05:00|main"')
    assert ask(["1"]).jobs["1"].state == "RUNNING"
    assert not (commands / "asked").exists()
    assert ask(["1", "2_3"]).jobs["2_3"].state == "FAILED"
    assert "--jobs=2 " in (commands / "asked").read_text()  # a task that never began is found by its array's number only


def test_what_the_queue_says_of_a_task_counts_before_what_accounting_says_of_its_whole_array(commands: Path) -> None:
    put(commands, "squeue", 'echo "2_1|PENDING||1|5:00|5:00|main|JobArrayTaskLimit"')
    put(commands, "sacct", 'echo "2_0|FAILED|n1|1|00:05:00|main"; echo "2_[1-4]|PENDING|None assigned|1|00:05:00|main"')
    answer = ask(["2_0", "2_1", "2_4"])
    assert {job.job_id: (job.state, job.reason) for job in answer.jobs.values()} == {
        "2_0": ("FAILED", ""),
        "2_1": ("PENDING", "JobArrayTaskLimit"),
        "2_4": ("PENDING", ""),
    }


def test_a_job_that_nobody_knows_is_not_there_and_no_fault(commands: Path) -> None:
    put(commands, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    answer = ask(["9"])
    assert (answer.jobs, answer.asked, answer.warning) == ({}, True, None)
