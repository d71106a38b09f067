"""``ostinato submit``: check a run, put it into Slurm's queue, follow it to its end (free of torch)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher import limits, slurm_query
from launcher.batch import Batch, Point, ask_slurm, enqueue
from launcher.closing import done_line, say
from launcher.freeze import Tree, survey
from launcher.local import virtual_ranks
from launcher.one_job import refuse_what_is_under_way
from launcher.plan import choose_workers, make_job, run_folder
from launcher.profile import Profile, load_profile
from launcher.requests import INTERRUPTED
from launcher.standing import TRAINING, look_at
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DONE, LOST, STOPPED, ConfigError
from trainer.rundir import RunDir, read_jsonl


def submit(
    config_path: str,
    overrides: Sequence[str],
    *,
    profile: str | None,
    options: Mapping[str, Any],
    fresh: bool,
    dry_run: bool,
    as_json: bool,
    wait: bool,
) -> int:
    """``ostinato submit``: the exit code.

    Raises:
        OstinatoError: what a person can mend; nothing was queued.
    """
    sys.path.insert(0, str(Path.cwd()))
    asked = load_profile(profile, options)
    point = Point(config_path, tuple(overrides))
    config = check(point, asked, fresh=fresh, dry_run=dry_run)
    folder = RunDir(run_folder(config, config_path))
    batch = Batch(asked, profile, folder.slurm.absolute(), folder.name, config.supervision.grace_s)
    tree = code_here(folder.path.parent)
    ask_slurm(batch, tree)
    if dry_run:
        _show(batch, tree, config, point, as_json)
        return DONE
    if folder.finished() and not fresh:
        say(f"run {folder.name}: finished already; --fresh starts over")
        say(done_line(folder))
        return DONE
    from trainer.config.targets import check_targets

    check_targets(load(config_path, overrides))
    [job_id] = enqueue(batch, [point], tree, fresh=fresh)
    if asked.executor == "debug":  # it has run, in this process
        return exit_code(folder)
    where = f"job {job_id}" if asked.executor == "slurm" else f"process {job_id}"
    print(json.dumps({"job_id": job_id, "run_dir": str(folder.path)}) if as_json else f"run {folder.name}: {where}, in {folder.path}")
    if not wait:
        if not as_json:
            say(f"see: ostinato status · ostinato logs {folder.path} -f · ostinato stop {folder.path}")
        return DONE
    return follow_to_its_end(folder)


def check(point: Point, profile: Profile, *, fresh: bool, dry_run: bool = False) -> Config:
    """All that can be said against a run without creating anything; its config.

    Raises:
        ConfigError: with what is wrong.
        RunFolderError: the run is under way.
    """
    config = check_run(point, profile, fresh=fresh)
    check_cluster(profile, dry_run=dry_run)
    return config


def check_run(point: Point, profile: Profile, *, fresh: bool) -> Config:
    """The part of it that does not need the cluster."""
    config = load(point.config, point.overrides).config
    folder = RunDir(run_folder(config, point.config))
    choose_workers(profile.workers, 0, virtual_ranks(config, folder, fresh), profile.nodes)
    if config.hardware.device == "cuda" and not profile.gpus_per_node:
        raise ConfigError("command line: hardware.device is cuda, and the profile asks for no GPU; set gpus_per_node (--gpus-per-node)")
    if "%" in str(folder.path.absolute()):
        raise ConfigError(
            f"command line: {folder.path.absolute()}: in names of a job's files % stands for its number; set run.root to another folder"
        )
    if profile.executor == "slurm" and profile.minutes * 60 <= 2 * config.supervision.grace_s:
        raise ConfigError(
            f"command line: time: {profile.minutes} minutes leave nothing to train in: supervision.grace_s={config.supervision.grace_s:g} "
            "seconds of them are kept for the last checkpoint"
        )
    refuse_what_is_under_way([folder])
    return config


def check_cluster(profile: Profile, *, dry_run: bool) -> None:
    """The other part: whether the cluster here can run it at all."""
    if profile.executor != "slurm":
        return
    here = slurm_query.present()
    if not here and not dry_run:
        raise ConfigError("command line: submit: there is no Slurm here (sbatch); a profile with executor: local runs on this machine")
    cluster = limits.ask() if here else "there is no Slurm here"
    if isinstance(cluster, str):
        say(f"warning: {cluster}: whether it can run this is not known", error=True)
        return
    if found := limits.problems(profile, cluster):
        raise ConfigError(*(f"command line: {problem}" for problem in found))
    for remark in limits.remarks(profile, cluster):
        say(f"warning: {remark}", error=True)


def code_here(runs: Path) -> Tree | None:
    """The code that a job would run, which lies around the present folder; runs are none of it.

    Raises:
        ConfigError: it is too large to be copied.
    """
    return survey(Path.cwd(), runs)


def _show(batch: Batch, tree: Tree | None, config: Config, point: Point, as_json: bool) -> None:
    """A dry run: the script for sbatch, or what would be started here."""
    folder, profile = str(batch.jobs.parent), batch.profile
    if profile.executor == "slurm":
        script = batch.script(tree)
        print(json.dumps({"run_dir": folder, "script": script}, indent=2) if as_json else script)
        return
    cpus = len(os.sched_getaffinity(0))
    job = make_job(config, point.config, point.overrides, workers=profile.workers, cpus=cpus, environ=os.environ, fresh=False)
    limit = f"executor:    {profile.executor}, for at most {profile.minutes} minutes"
    print(json.dumps({"run_dir": folder, **job.as_json()}, indent=2) if as_json else f"{limit}\n{job.as_text()}")


def follow_to_its_end(folder: RunDir) -> int:
    """Print the run's log until it has ended; its exit code. Ctrl-C ends the looking, and not the job."""
    from launcher import logs

    if not logs.follow_to_its_end(folder) and look_at(folder)[0].may_be_on:
        say(f"the job goes on; ostinato logs {folder.path} -f looks at it again, ostinato stop {folder.path} ends it")
        return INTERRUPTED
    code = exit_code(folder)
    if code == DONE:
        say(done_line(folder))
    if code == LOST:  # whoever is taken from the queue has no turn that could say so
        found = look_at(folder)[0]
        return STOPPED if found.state == "stopped" and found.facts.event not in TRAINING else LOST
    return code


def exit_code(folder: RunDir) -> int:
    """How the run's newest turn ended, from its events."""
    code = LOST
    for row in read_jsonl(folder.events):
        event = row.get("event")
        if event in ("started", "resumed", "submitted"):
            code = LOST
        elif event == "finished":
            code = DONE
        elif event == "stopped":
            code = STOPPED
        elif event == "failed":
            code = int(row.get("exit_code", LOST))
    return code
