"""A profile as sbatch's script, and the script to Slurm, through submitit (free of torch)."""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher import slurm_query, without_slurm
from launcher.profile import Profile
from launcher.slurm_query import ANSWER_WITHIN_S, call, last_line
from trainer.errors import ConfigError

SIGNAL_MARGIN = 2.0
"""Slurm looks at time limits every half minute, so its warning is asked for earlier than it is needed."""

# Until python listens, a request to stop must not end the task: that would look like the end of the job.
DEAF = """sh -c 'trap "" TERM USR2; exec "$0" "$@"'"""

# A container has none of Slurm's commands: there a job asks for one more turn by a file, and its script, outside, queues it again.
# The wish of an earlier turn, which Slurm has fulfilled itself, is none of this one's: the file begins with the number of the turn.
WISH = "OSTINATO_AGAIN"
# One task of an array has the array's own number, by which Slurm would take all of them.
TASK = "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
GRANT = """\
code=$?
job={task}
turn=
[ -e {wish} ] && read -r turn reason < {wish}
if [ "$turn" = "${{SLURM_RESTART_COUNT:-0}}" ]; then
  for pause in 10 0; do
    state=$(squeue --noheader --jobs=$job --format=%T)
    [ "$state" = RUNNING ] && scontrol requeue $job && sleep 60 && exit $code
    [ -n "$state" ] && [ "$state" != RUNNING ] && exit $code
    sleep $pause
  done
  echo "could not be queued again as job $job; submit it again to go on"
fi
exit $code"""
# Nor can the job ask how much time it has: at the beginning of each turn its script says when it was asked, and what was left then.
LEFT = "OSTINATO_TIME_LEFT"
ASK_LEFT = f'export {LEFT}="$(date +%s) $(squeue --noheader --jobs={TASK} --format=%L)"'
# After the first node has ended: node 0 may ask Slurm for a minute, again for one to be queued, and wait for one until it is.
OTHERS_END_WITHIN_S = 300
# Slurm says it also where the nodes that would fit are down at the moment.
NOT_NOW = "Requested node configuration is not available"
UNREACHABLE = re.compile(
    r"contact|Socket|Connection|configuration source|configuration file|cannot stat|Zero Bytes|timed out", re.IGNORECASE
)

# Of Slurm's own variables these say where it is, and all others would change the job: sbatch lets them go before the script.
CLUSTER = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_SACK_SOCKET")


def plain(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables with which sbatch does what the script says: without options of its own, and those of a job around this. Pure."""
    theirs = ("SBATCH_", "SLURM_", "SLURMD_", "SRUN_")
    return {name: value for name, value in variables.items() if name in CLUSTER or not name.startswith(theirs)}


def overruled(variables: Mapping[str, str]) -> str | None:
    """A line about options that the user has set for sbatch, as variables: the profile counts. Pure."""
    names = ", ".join(sorted(name for name in variables if name.startswith("SBATCH_")))
    return f"{names}: set here, and without effect; say it in the profile" if names else None


def parameters(profile: Profile, jobs: Path, name: str, grace_s: float, chdir: str | None) -> dict[str, Any]:
    """The parameters of submitit's executor, all that follows from the one model of resources. Pure."""
    wish = f"{shlex.quote(str(jobs))}/again-$SLURM_JOB_ID"
    contained = profile.container is not None
    more: dict[str, Any] = {key: value for key, value in profile.sbatch.items() if value is not False}
    more["requeue" if profile.requeue else "no-requeue"] = True
    if chdir is not None:
        more["chdir"] = chdir
    if profile.gpus_per_node:
        more["gpus-per-node"] = f"{profile.gpu_type}:{profile.gpus_per_node}" if profile.gpu_type else profile.gpus_per_node
    found = {
        "job_name": name,
        "nodes": profile.nodes,
        "ntasks_per_node": 1,
        "cpus_per_task": profile.cpus_per_node,
        "mem": _memory(profile.memory_gb),
        "time": profile.minutes,
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "signal_delay_s": math.ceil(SIGNAL_MARGIN * grace_s),
        "setup": [
            f"export SRUN_CPUS_PER_TASK={profile.cpus_per_node}",
            *([f"export {WISH}={wish}"] if contained else []),
            *profile.setup,
            *(["set +e", ASK_LEFT] if contained else []),  # what follows is to run however the job ends
        ],
        "teardown": GRANT.format(wish=wish, task=TASK).splitlines() if contained else None,
        "stderr_to_stdout": True,
        "srun_args": _srun(profile),
        "additional_parameters": more,
    }
    # submitit's own key for accounting is none of the user's.
    return {"wckey": None, **{key: value for key, value in found.items() if value is not None}}


def _memory(gigabytes: float | None) -> str | None:
    """Of a node; 0 is Slurm's word for all of it."""
    return None if gigabytes is None else f"{math.ceil(gigabytes * 1024)}MB" if gigabytes else "0"


def _srun(profile: Profile) -> list[str]:
    # A launcher that is gone must not take node 0's with it, which queues the job again; but nobody waits for what never began.
    found = ["--kill-on-bad-exit=0", f"--wait={OTHERS_END_WITHIN_S}", f"--cpus-per-task={profile.cpus_per_node}", *profile.srun]
    container = profile.container
    if container is not None and container.runtime == "pyxis":
        found.append(f"--container-image={container.image}")
        if container.mounts:
            found.append(f"--container-mounts={','.join(mount if ':' in mount else f'{mount}:{mount}' for mount in container.mounts)}")
    return found


def python_of(profile: Profile) -> str:
    """The command that starts python: the one that runs this, or a container's."""
    container = profile.container
    if container is None:
        return shlex.quote(sys.executable)
    if container.runtime == "pyxis":
        return "python"
    mounts = [word for mount in container.mounts for word in ("--bind", mount)]
    return shlex.join(["apptainer", "exec", *(["--nv"] if profile.gpus_per_node else []), *mounts, container.image, "python"])


def executor(profile: Profile, jobs: Path, name: str, grace_s: float, chdir: str | None, parallel: int = 1) -> Any:
    """The executor of submitit for a profile.

    Args:
        profile: what to ask for.
        jobs: the folder that gets a folder for each job; a ``%`` in it is Slurm's.
        name: the job's name.
        grace_s: how long a stop may take.
        chdir: where the job begins.
        parallel: of an array's tasks, so many at a time.
    """
    import submitit

    if profile.executor == "slurm":

        class Slurm(submitit.SlurmExecutor):  # type: ignore[misc]
            """A script can be written where there is no Slurm; and it is known which of them lay there before."""

            earlier: frozenset[str] | None = None

            @classmethod
            def affinity(cls) -> int:
                return 2

        found: Any = Slurm(folder=jobs / "%j", python=f"{DEAF} {python_of(profile)}")
        found.update_parameters(**parameters(profile, jobs, name, grace_s, chdir), array_parallelism=parallel)
        return found
    return without_slurm.executor(profile, jobs, math.ceil(SIGNAL_MARGIN * grace_s))


def script(profile: Profile, jobs: Path, name: str, grace_s: float, chdir: str | None, points: int = 1, parallel: int = 1) -> str:
    """The script that would be submitted."""
    made = executor(profile, jobs, name, grace_s, chdir, parallel)
    if points > 1:
        made.parameters["map_count"] = points
    return str(made._make_submission_file_text(made._submitit_command_str, "dry-run"))


def try_out(text: str) -> tuple[str | None, str | None]:
    """Ask Slurm whether it would take a script, without submitting it: its refusal and its doubt, one line each.

    That it does not answer is no news: `launcher.limits` has asked it before.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"],
            env={**plain(os.environ), "LC_ALL": "C"},
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    if done.returncode == 0:
        return None, None
    return judge(done.stderr or done.stdout)


def judge(said: str) -> tuple[str | None, str | None]:
    """What ``sbatch --test-only`` has against a script: a refusal or a doubt. Pure."""
    lines = [line for line in said.splitlines() if re.search(r"allocation failure: |error: |fatal: |option", line)]
    said_last = re.sub(r"^(sbatch: |error: |fatal: |allocation failure: )*", "", (lines or [last_line(said)])[-1])
    if NOT_NOW in said_last:
        return None, f"Slurm says: {said_last}; the job waits, perhaps for nodes that are down at the moment"
    return None if not lines or UNREACHABLE.search(said) else said_last, None


def submit_all(made: Any, tasks: Sequence[Any]) -> list[str]:
    """Submit tasks, several as one job array; their job ids.

    Raises:
        ConfigError: Slurm would not have it, with its reason in one line.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    before = dict(os.environ)
    try:
        if made.name() == "slurm":
            made.earlier = _scripts(made)
            os.environ.clear()
            os.environ.update(plain(before))
        if len(tasks) == 1:
            jobs = [made.submit(tasks[0])]
        else:
            with made.batch():
                jobs = [made.submit(task) for task in tasks]
        if made.name() == "debug":  # it does nothing until somebody wants the result
            for job in jobs:
                job.results()
        return [str(job.job_id) for job in jobs]
    except (FailedJobError, FailedSubmissionError) as fault:
        lines = [line for line in str(fault).splitlines() if "error" in line.lower()] or str(fault).splitlines()
        raise ConfigError(f"command line: submit: Slurm refuses it: {lines[-1].removeprefix('sbatch: ').removeprefix('error: ')}") from None
    finally:
        os.environ.clear()
        os.environ.update(before)


def withdraw(made: Any) -> None:
    """Take back what sbatch was given, after a fault: a job of which nobody has written down that it is there, if it is.

    Slurm knows each by the path of its script, an array as a whole; what lies there of earlier submissions is not touched.
    """
    earlier = getattr(made, "earlier", None)
    given = frozenset() if earlier is None else _scripts(made) - earlier
    code, out, _ = call("squeue", "--me", "--noheader", "--states=all", "--format=%F|%T|%o") if given else (1, "", "")
    lines = (line.strip().split("|", 2) for line in out.splitlines() if line.count("|") >= 2)
    ids = [job_id for job_id, state, command in lines if command in given and state in slurm_query.WAITING | slurm_query.RUNNING]
    if code == 0 and ids:
        call("scancel", *dict.fromkeys(ids))


def _scripts(made: Any) -> frozenset[str]:
    """The scripts that lie in an executor's folder, under the names with which sbatch was called."""
    return frozenset(str(path) for path in made.folder.parent.glob("*.sh"))
