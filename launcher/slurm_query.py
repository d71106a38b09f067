"""What Slurm says of jobs: one squeue call for all of them, sacct for those it has forgotten, nothing where there is no Slurm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ANSWER_WITHIN_S = 10.0
FORMAT = "%i|%T|%N|%D|%l|%L|%P|%r\t%o"  # the reason and the script last, and a tab between them: they may be anything

WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
RUNNING = frozenset({"RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"})
NO_SLURM = re.compile(r"establish a configuration source|cannot stat file|Unable to process configuration file")
UNKNOWN_JOB = re.compile(r"Invalid job id specified")
NOT_A_REASON = ("", "None", "(null)")
NOT_SAID = ("", "(null)")


@dataclass(frozen=True)
class SlurmJob:
    """One job, or one task of a job array, as Slurm knows it.

    Args:
        job_id: ``123``, or ``123_4`` for a task of an array.
        state: Slurm's word, in capitals.
        reason: why it waits, or how it ended; empty where Slurm has none.
        nodes: their names in Slurm's short form, such as ``n[1-4]``.
        node_count: how many there are.
        limit_s: the time limit; None where there is none.
        left_s: what is left of it.
        partition: where it is queued.
        restarts: how often it was requeued; None where that was not asked.
        script: the path that sbatch was given; empty where that is not said.
    """

    job_id: str
    state: str
    reason: str = ""
    nodes: str = ""
    node_count: int | None = None
    limit_s: int | None = None
    left_s: int | None = None
    partition: str = ""
    restarts: int | None = None
    script: str = ""

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return self.state in WAITING

    @property
    def runs(self) -> bool:
        """Whether it has nodes."""
        return self.state in RUNNING

    @property
    def lives(self) -> bool:
        """Whether anything will still come of it."""
        return self.waits or self.runs


@dataclass(frozen=True)
class Answer:
    """What was found out about some jobs.

    Args:
        jobs: by job id; one that is missing is not known any more.
        asked: Slurm is here and has answered.
        warning: one line, where it is here and has not.
    """

    jobs: Mapping[str, SlurmJob] = field(default_factory=dict)
    asked: bool = False
    warning: str | None = None

    def of(self, submission: Mapping[str, Any]) -> SlurmJob | None:
        """The job of a submission. A job of the same number is another one where its script lies elsewhere: each cluster counts anew."""
        job = self.jobs.get(str(submission.get("job_id")))
        return job if job is None or _is_of(job, submission) else None


def present() -> bool:
    """Whether Slurm's commands are on this machine."""
    return shutil.which("squeue") is not None


def ask(job_ids: Sequence[str]) -> Answer:
    """The state of some jobs, by one call of squeue, and one of sacct if some have left the queue long ago."""
    if not job_ids or not present():
        return Answer()
    code, out, err = call("squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(job_ids)}", f"--format={FORMAT}")
    if code != 0 and NO_SLURM.search(err):
        return Answer()
    if code != 0 and not UNKNOWN_JOB.search(err):
        return Answer(warning=f"Slurm does not answer ({last_line(err) or f'squeue ended with {code}'})")
    wanted = set(job_ids)
    jobs = {job.job_id: job for job in parse_squeue(out) if job.job_id in wanted}
    if forgotten := [job_id for job_id in job_ids if job_id not in jobs]:
        fields = "JobID,State,NodeList,NNodes,Timelimit,Partition"
        # A task that never began cannot be found by its own number.
        whole = ",".join(dict.fromkeys(job_id.partition("_")[0] for job_id in forgotten))
        code, out, _ = call("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={whole}", f"--format={fields}")
        if code == 0:  # without accounting it ends with 1
            jobs |= {job.job_id: job for job in parse_sacct(out) if job.job_id in forgotten}
    return Answer(jobs, asked=True)


def details(job_id: str) -> SlurmJob | None:
    """One job with the number of its restarts, from scontrol; None: Slurm does not know it, or is not here."""
    if not present():
        return None
    code, out, _ = call("scontrol", "--oneliner", "show", "job", job_id)
    return next((job for job in parse_scontrol(out) if job_id in (job.job_id, job.job_id.partition("_")[0])), None) if code == 0 else None


def parse_squeue(text: str) -> list[SlurmJob]:
    """The jobs in squeue's answer, a line each, in `FORMAT`."""
    found = []
    for line in text.splitlines():
        parts = line.split("|", 7)
        if len(parts) < 8:
            continue
        job_id, state, nodes, count, limit, left, partition, rest = (part.strip() for part in parts)
        reason, _, script = rest.partition("\t")
        said = SlurmJob(job_id, state, _reason(reason.strip()), _reason(nodes), _number(count), seconds(limit), seconds(left), partition)
        found.append(replace(said, script="" if script.strip() in NOT_SAID else script.strip()))
    return found


def parse_sacct(text: str) -> list[SlurmJob]:
    """The jobs in sacct's answer, and an array's tasks; a requeued job's newest line comes last and counts."""
    found: dict[str, SlurmJob] = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) < 6 or "." in parts[0].partition("[")[0]:
            continue
        state = parts[1].split(" ")[0]  # CANCELLED by 1000
        nodes = "" if parts[2] == "None assigned" else parts[2]
        job = SlurmJob(parts[0], state, "", nodes, _number(parts[3]), seconds(parts[4]), None, parts[5])
        found |= {job.job_id: job} if "[" not in job.job_id else {one: replace(job, job_id=one) for one in _tasks(job.job_id)} | found
    return list(found.values())


def _tasks(name: str) -> list[str]:
    """The tasks of an array that never began, which share one line: ``5_[0,2-4,6-10:2%2]``."""
    array, _, rest = name.partition("_[")
    parts = (re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part) for part in re.sub(r"(%\d+)?\]$", "", rest).split(","))
    ranges = (range(int(found[1]), int(found[2] or found[1]) + 1, int(found[3] or 1)) for found in parts if found)
    return [f"{array}_{task}" for tasks in ranges for task in tasks]


def parse_scontrol(text: str) -> list[SlurmJob]:
    """The jobs in ``scontrol --oneliner show job``'s answer."""
    found = []
    for line in text.splitlines():
        facts = dict(re.findall(r"(?:^|\s)([A-Za-z/:]+)=(\S*)", line))
        if "JobState" not in facts:
            continue
        job_id = facts["JobId"]
        if "ArrayTaskId" in facts:
            job_id = f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}"
        limit, ran = seconds(facts.get("TimeLimit", "")), seconds(facts.get("RunTime", ""))
        left = None if limit is None or ran is None else max(0, limit - ran)
        found.append(
            SlurmJob(
                job_id,
                facts["JobState"],
                _reason(facts.get("Reason", "")),
                _reason(facts.get("NodeList", "")),
                _number(facts.get("NumNodes", "").partition("-")[0]),
                limit,
                left,
                facts.get("Partition", ""),
                _number(facts.get("Restarts", "")),
            )
        )
    return found


def seconds(text: str) -> int | None:
    """Slurm's ``[days-]hours:minutes:seconds`` in seconds; None for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if not match:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def call(*command: str) -> tuple[int, str, str]:
    """Run one of Slurm's commands; exit code 1 where it is missing or does not answer in time."""
    # A user's own formats and filters for these commands must not change what we read; C: its texts as we know them.
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_", "SLURM_TIME", "SLURM_CLUSTERS"))
    }
    try:
        done = subprocess.run(
            command,
            env={**env, "LC_ALL": "C", "SLURM_BITSTR_LEN": "0"},  # 0: a long array's tasks are all named
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_WITHIN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as slow:
        said = (slow.stderr or b"").decode(errors="replace")
        return 1, "", f"{said}\n{command[0]} has not answered within {ANSWER_WITHIN_S:g} s"
    except OSError as fault:
        return 1, "", f"{command[0]}: {fault.strerror}"
    return done.returncode, done.stdout, done.stderr


def last_line(text: str) -> str:
    """The last line that says something: Slurm's commands begin with what they tried."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _is_of(job: SlurmJob, submission: Mapping[str, Any]) -> bool:
    """Whether a job's script lies where submitit has put it: in the folder that has a folder for each job, with the job's log."""
    log = Path(str(submission.get("log")))
    if not job.script or log.parent.name != job.job_id:  # nothing is known against it
        return True
    return os.path.realpath(Path(job.script).parent) == os.path.realpath(log.parents[1])


def _reason(text: str) -> str:
    return "" if text in NOT_A_REASON else text


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None
