"""What is submitted at once: the runs' folders are made, the code is frozen, submitit gets it, and it is written down (free of torch)."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import sbatch, slurm_query
from launcher.attempts import note
from launcher.closing import say
from launcher.freeze import Frozen, Tree, beginning, freeze, not_frozen, own_code
from launcher.one_job import alone, refuse_what_is_under_way
from launcher.plan import run_folder
from launcher.profile import Container, Profile
from launcher.slurm_task import Task
from trainer.config.load import load
from trainer.errors import ConfigError, StorageError
from trainer.files import make_private
from trainer.rundir import RunDir, append_jsonl, write_json

# Apptainer's and enroot's.
IMAGES = (".sif", ".sqsh", ".squashfs")


@dataclass(frozen=True)
class Point:
    """One run that is to be submitted: its config file and what the command line says besides."""

    config: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """What is submitted at once: one job, or one array of jobs.

    Args:
        profile: what it asks for.
        profile_name: what the profile is called.
        jobs: the folder for submitit's files and the logs; a folder for each job in it.
        name: the job's name.
        grace_s: how long a stop may take.
        parallel: of an array's tasks, so many at a time.
    """

    profile: Profile
    profile_name: str | None
    jobs: Path
    name: str
    grace_s: float
    parallel: int = 1

    def script(self, tree: Tree | None, points: int = 1) -> str:
        """The script that would be submitted."""
        begin = Path.cwd() if tree is None else self.jobs / "code" / tree.digest()
        own = self.own(tree)
        profile = self.asked(None if own is None else self.jobs / "code" / own.digest())
        return sbatch.script(profile, self.jobs, self.name, self.grace_s, str(begin), points, self.parallel)

    def own(self, tree: Tree | None) -> Tree | None:
        """Ostinato's own code, where it is copied besides; a container has its own."""
        return own_code(tree) if self.profile.container is None else None

    def asked(self, own: Path | None) -> Profile:
        """The profile; python finds a copy of ostinato's code before what is installed, and each node the container's image."""
        if self.profile.container is not None:
            return self.profile.model_copy(update={"container": found_from_here(self.profile.container)})
        if own is None:
            return self.profile
        line = f"export PYTHONPATH={shlex.quote(str(own))}${{PYTHONPATH:+:$PYTHONPATH}}"
        return self.profile.model_copy(update={"setup": (*self.profile.setup, line)})


def found_from_here(container: Container) -> Container:
    """A container whose image is a file in or below this folder, which is not the one where the job begins."""
    path = Path(container.image)
    is_there = path.is_file() or (container.runtime == "apptainer" and path.is_dir())
    return container.model_copy(update={"image": str(path.absolute())}) if is_there else container


def _look_for_image(container: Container) -> None:
    """An image that cannot be found is refused; one with an absolute path may lie where only the job's machines see it.

    Raises:
        ConfigError: it is a file by its name, and there is none.
    """
    path = Path(container.image)
    if path.suffix not in IMAGES or "://" in container.image or path.exists():
        return
    if not path.is_absolute():
        raise ConfigError(f"command line: container.image: {path}: no such file in {Path.cwd()}; make it there, or give its absolute path")
    say(f"warning: container.image: {path}: no such file here; the job needs it on its machines", error=True)


def ask_slurm(batch: Batch, tree: Tree | None, points: int = 1) -> None:
    """Let Slurm itself judge the script, where there is one.

    Raises:
        ConfigError: it would not take it, or the job would find no image.
    """
    if batch.profile.executor != "slurm" or not slurm_query.present():
        return
    if batch.profile.container is not None:
        _look_for_image(batch.profile.container)
    if line := sbatch.overruled(os.environ):
        say(f"warning: {line}", error=True)
    refusal, doubt = sbatch.try_out(batch.script(tree, points))
    if refusal is not None:
        raise ConfigError(f"command line: submit: Slurm refuses it: {refusal}")
    if doubt is not None:
        say(f"warning: {doubt}", error=True)


def enqueue(batch: Batch, points: Sequence[Point], tree: Tree | None, *, fresh: bool) -> list[str]:
    """Prepare the runs' folders and submit them, several as one job array; their job ids.

    Raises:
        OstinatoError: nothing was queued.
    """
    if batch.profile.executor == "debug":  # it runs in this process, and holds the run's own lock meanwhile
        return _enqueue(batch, points, tree, fresh=fresh)
    folders = [RunDir(run_folder(load(point.config, point.overrides).config, point.config)) for point in points]
    with alone(folder.path.parent.absolute() for folder in folders):
        refuse_what_is_under_way(folders)
        return _enqueue(batch, points, tree, fresh=fresh)


def _enqueue(batch: Batch, points: Sequence[Point], tree: Tree | None, *, fresh: bool) -> list[str]:
    from trainer.prepare import prepare

    profile = batch.profile
    world, cpus = profile.nodes * profile.workers, profile.nodes * profile.cpus_per_node
    runs = [prepare(point.config, point.overrides, world_size=world, cpus=cpus, fresh=fresh).run for point in points]
    folders = [RunDir(run.path.absolute()) for run in runs]
    for room in (batch.jobs, *(folder.slurm for folder in folders)):
        room.parent.mkdir(parents=True, exist_ok=True)
        make_private(room)
    frozen = None if tree is None else freeze(tree, batch.jobs / "code")
    if frozen is None:
        say(f"warning: {not_frozen(Path.cwd())}", error=True)
    own = None if (found := batch.own(tree)) is None else freeze(found, batch.jobs / "code")
    begin = str(frozen.path) if frozen else str(Path.cwd())
    made = sbatch.executor(batch.asked(own.path if own else None), batch.jobs, batch.name, batch.grace_s, begin, batch.parallel)
    tasks = [Task(str(_write_task(folder, profile, frozen, own))) for folder in folders]
    for folder in folders:
        folder.event("submitted", profile=batch.profile_name)  # before it: a job can begin at once, and what it writes comes after
    try:
        with beginning(begin, own) if profile.executor == "local" else contextlib.nullcontext():
            ids = sbatch.submit_all(made, tasks)
        _write_down(batch, folders, ids)
    except BaseException as fault:
        sbatch.withdraw(made)
        # What runs in this process has told its end itself.
        for folder in folders if profile.executor != "debug" or isinstance(fault, ConfigError) else []:
            note(folder, "refused", reason=str(fault) or type(fault).__name__)
        if isinstance(fault, OSError):
            raise StorageError(f"{fault.filename or batch.jobs}: {fault.strerror}; nothing stays queued") from fault
        raise
    return ids


def _write_down(batch: Batch, folders: Sequence[RunDir], ids: Sequence[str]) -> None:
    """Which job runs what."""
    profile = batch.profile
    for folder, job_id in zip(folders, ids, strict=True):
        facts = {"job_id": job_id, "nodes": profile.nodes, "workers_per_node": profile.workers, "profile": batch.profile_name}
        if profile.executor == "local":
            facts["host"] = os.uname().nodename
        log = batch.jobs / job_id / f"{job_id}_0_log.out"
        append_jsonl(folder.submissions, {"time": time.time(), **facts, "partition": profile.partition, "log": str(log)})


def _write_task(folder: RunDir, profile: Profile, frozen: Frozen | None, own: Frozen | None) -> Path:
    """The file that a job reads, which is all that it is told."""
    copies = [*([own.path] if own else []), *([frozen.path, frozen.inside] if frozen else [])]
    path = list(dict.fromkeys(map(str, copies)))
    facts = {
        "run_dir": str(folder.path),
        "cwd": str(Path.cwd()),
        "path": path,
        "frozen": str(frozen.path) if frozen else None,
        "nodes": profile.nodes,
        "workers_per_node": profile.workers,
        "requeue": profile.requeue,
    }
    file = folder.slurm / f"task-{time.time_ns()}.json"
    write_json(file, facts)
    return file
