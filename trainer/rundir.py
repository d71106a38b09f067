"""The run folder: every path of a run has one name here, and a file appears only when it is whole.

::

    runs/<name>/
      config.yaml        what was asked, every default filled in
      environment.json   one entry an attempt: versions, commit, host, devices, threads, virtual ranks, workers
      events.jsonl       created submitted started resumed checkpointed stop-requested stopped requeued failed finished, with times
      metrics.jsonl      a line a logged step, an epoch's training and an evaluation
      metrics.csv        the same rows for spreadsheets, written when the run ends or stops
      vocabulary.json    the words that inputs are counted by, where the data set has a vocabulary
      inputs.json        what one input is and what the classes are called: enough to give the model new ones
      system.jsonl       CPU, memory and GPU use of each rank
      tensorboard/
      wandb/             what goes to Weights & Biases, if log.wandb asks for it
      checkpoints/       step-00001234/ (state.pt + manifest.json), best.json, last.json
      logs/              attempt-000/rank-0.log, attempt-000/rank-0.outcome.json
      heartbeats/        rank-0.json: step, phase, time
      evaluations/       what `ostinato evaluate` found: table, JSON and picture
      exports/           what `ostinato export` made
      slurm/             submissions.jsonl, what each submission was, and its files; only where the run was submitted to Slurm
      lock, fence        held by a start and by its workers; both are empty of meaning once nobody holds them

Folders are 0700 and files 0600. Nothing is written through a symbolic link; ``run.root`` may be one, and what lies above it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainer.errors import RunFolderError
from trainer.files import (
    append_jsonl,
    clear_partials,
    fsync_folder,
    is_file_in,
    make_private,
    names_in,
    private,
    read_json,
    read_jsonl,
    refuse_link,
    refuse_links_below,
    write_atomic,
    write_json,
)
from trainer.locks import Fence, RunLock

__all__ = [
    "Fence",
    "RunDir",
    "RunLock",
    "append_jsonl",
    "fsync_folder",
    "make_private",
    "private",
    "read_json",
    "read_jsonl",
    "write_atomic",
    "write_json",
]

ASIDE = ("environment-changed", "stop-requested")
"""Events that come from a thread or another process, in their own time: the last one besides them says how a run stands."""


class RunDir:
    """The paths of one run, and the few ways to write there.

    Args:
        path: the run folder; it need not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.events = self.path / "events.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.metrics_table = self.path / "metrics.csv"
        self.vocabulary = self.path / "vocabulary.json"
        self.inputs = self.path / "inputs.json"
        self.evaluations = self.path / "evaluations"
        self.exports = self.path / "exports"
        self.system = self.path / "system.jsonl"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self.heartbeats = self.path / "heartbeats"
        self.slurm = self.path / "slurm"
        self.submissions = self.slurm / "submissions.jsonl"
        self.lock = self.path / "lock"
        self.fence = self.path / "fence"

    def __repr__(self) -> str:
        return f"RunDir({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The run's name: the folder's last part."""
        return self.path.name

    def must_exist(self, said: str | None = None) -> None:
        """Refuse a folder that is no run.

        Args:
            said: the path as it was typed.

        Raises:
            RunFolderError: it is none; the text names a run beside it, or in ``runs``, that is called so or nearly so.
        """
        if self.exists():
            return
        import difflib  # only who is mistaken waits for it

        typed = Path(said) if said is not None else self.path
        name = self.name.removesuffix(".yaml")  # a config's name is mostly that of its run
        for place, shown in ((self.path.absolute().parent, typed.parent), (Path("runs"), Path("runs"))):
            with suppress(OSError):
                runs = [folder.name for folder in place.iterdir() if RunDir(folder).exists()]
                if near := difflib.get_close_matches(name, runs, 1):
                    raise RunFolderError(f"{typed}: no run here (did you mean {shown / near[0]}?)")
        raise RunFolderError(f"{typed}: no run here (it has no config.yaml)")

    def identity(self) -> tuple[int, int] | None:
        """Which folder of which disk it is now: another one, where the run was begun anew and the old one moved aside; None: none."""
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_dev, facts.st_ino

    def exists(self) -> bool:
        """Whether a run was created here: its config is the first file that is written."""
        return self.config.is_file()

    def create(self) -> None:
        """Make the folder and its rooms, readable for its owner alone.

        Raises:
            RunFolderError: there is a folder with something else in it, or a symbolic link.
        """
        self.check()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints, self.logs, self.heartbeats):
            make_private(folder)

    def check(self) -> None:
        """Refuse a folder that is no run's, and symbolic links where the run writes. Nothing is created.

        Raises:
            RunFolderError: names the link, or what is in the folder besides.
        """
        files = (self.config, self.environment, self.events, self.metrics, self.system, self.vocabulary, self.lock, self.fence)
        for path in (self.path, *files):
            refuse_link(path)
        for path in (self.slurm, self.submissions):  # submitit puts links of its own beside them
            refuse_link(path)
        for room in (self.checkpoints, self.logs, self.heartbeats, self.tensorboard):
            refuse_link(room)
            refuse_links_below(room)
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(
                f"{self.path}: a file is where the run folder should be; choose another run.name or run.root, or move it away"
            )
        if strange := self._strange():
            raise RunFolderError(
                f"{self.path}: a folder with something else in it ({strange}) and no config.yaml, so no run; "
                "choose another run.name or run.root, or move it away"
            )

    def _strange(self) -> str | None:
        """A file or folder here that is more than the beginning of a run; None: there is nothing of the kind, or here is a run.

        Another start may create the run at this moment, or put a new folder in its place. So one folder is held open and looked at, and
        for the config last: whatever else a run has is written after it.
        """
        try:
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            strange = [name for name in names_in(folder) if not self._begins(name, folder)]
            return strange[0] if strange and not is_file_in(folder, self.config.name) else None
        finally:
            os.close(folder)

    def _begins(self, name: str, folder: int) -> bool:
        """Whether a name in an open folder is one of those that a run has before its config: a lock, half a config, an empty room."""
        if name in (self.checkpoints.name, self.logs.name, self.heartbeats.name):
            try:
                room = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            except OSError:
                return False
            try:
                return not names_in(room)
            finally:
                os.close(room)
        half = name.startswith(f".{self.config.name}.") and name.endswith(".partial")
        return half or name in (self.lock.name, self.fence.name)

    def clear_partials(self) -> None:
        """Remove the halves of files that kills have left. Call it with the lock and the fence held: nobody else may be writing."""
        for folder in (self.path, self.checkpoints, self.heartbeats, *self.logs.glob("attempt-*")):
            clear_partials(folder)

    def progress(self) -> bool:
        """Whether there is anything of training here: a checkpoint, whole or not, or a row of metrics."""
        return any(self.checkpoints.glob("*")) or any(True for _ in read_jsonl(self.metrics))

    def attempt_logs(self, attempt: int) -> Path:
        """The folder of one attempt's logs, ``logs/attempt-000``."""
        return self.logs / f"attempt-{attempt:03d}"

    def rank_log(self, attempt: int, rank: int) -> Path:
        """The log of one rank in one attempt."""
        return self.attempt_logs(attempt) / f"rank-{rank}.log"

    def outcome(self, attempt: int, rank: int) -> Path:
        """How one rank ended: ``{"exit_code", "error", "time"}``; missing when it was killed."""
        return self.attempt_logs(attempt) / f"rank-{rank}.outcome.json"

    def stack(self, attempt: int, rank: int) -> Path:
        """Where one rank's python stacks are written when the job is stuck; a loader worker's file has its process id besides."""
        return self.attempt_logs(attempt) / f"rank-{rank}.stack.txt"

    def evaluation(self, split: str) -> Path:
        """What the newest evaluation of a split found beyond numbers."""
        return self.path / f"evaluation-{split}.json"

    def samples(self, split: str) -> Path:
        """Some predictions to look at, made when training was over."""
        return self.path / f"samples-{split}.json"

    def heartbeat(self, rank: int) -> Path:
        """The file in which one rank says where it is."""
        return self.heartbeats / f"rank-{rank}.json"

    def next_attempt(self) -> int:
        """The number of the attempt that starts now: 0 for the first."""
        taken = [int(p.name.removeprefix("attempt-")) for p in self.logs.glob("attempt-[0-9]*")]
        return max(taken, default=-1) + 1

    def event(self, name: str, **facts: Any) -> None:
        """Append one line to ``events.jsonl``."""
        append_jsonl(self.events, {"time": round(time.time(), 3), "event": name, **facts})

    def finished(self) -> bool:
        """Whether the run's newest event says that training is complete."""
        last = None
        for row in read_jsonl(self.events):
            if row.get("event") not in ASIDE:
                last = row.get("event")
        return last == "finished"
