"""Weights & Biases, for those who name a project in ``log.wandb``: the rows and the config go there, and nothing waits for it.

Only rows and the config are sent: no code, no git state, no command line, no list of packages, nothing from the terminal.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
from typing import Any

from trainer.files import make_private
from trainer.metrics.behind import Behind
from trainer.rundir import RunDir, read_jsonl

CLOSE_S = 8.0
QUIET = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "symlink": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


def missing() -> str | None:
    """Why nothing can be sent, and what to do about it; None: the package is there."""
    found = importlib.util.find_spec("wandb")
    if found is not None and found.origin is not None:  # a folder that is called wandb, and such a one is left by runs, is no package
        return None
    return "the package wandb is not installed; pip install 'ostinato[wandb]', or leave log.wandb out"


class WeightsAndBiases:
    """One run there. On the first fault it is given up, and that is said.

    Args:
        run: the run folder; what is sent is kept below its ``wandb``.
        project: the project's name.
        config: the options to show there.
    """

    def __init__(self, run: RunDir, project: str, config: dict[str, Any]) -> None:
        self.run, self.project, self.config = run, project, config
        self.behind = Behind("wandb")
        self._there: Any = None
        self.behind.later(self._open)  # not with the first row: it takes its seconds

    def row(self, step: int, values: dict[str, float]) -> None:
        """Send one row. A step that is done again after a kill has the same numbers, and is not counted twice there."""
        self.behind.later(lambda: self._there.log(values, step=step))

    def close(self) -> None:
        """Send what is held, but do not let the end wait for a network: ``wandb sync`` sends what was left."""

        def close() -> None:
            if self._there is not None:
                self._there.finish()

        self.behind.close(close, CLOSE_S)

    def _open(self) -> None:
        import wandb

        make_private(self.run.path / "wandb")
        known = getattr(wandb.Settings, "model_fields", {})  # their names change
        settings = wandb.Settings(**{name: value for name, value in QUIET.items() if name in known})
        if os.environ.get("WANDB_MODE", "online") == "online" and "prompt" in inspect.signature(wandb.login).parameters:
            wandb.login(prompt=False)  # a job must not stop at a question
        self._there = wandb.init(
            project=self.project,
            name=self.run.name,
            id=run_id(self.run),
            resume="allow",
            dir=str(self.run.path),
            config=self.config,
            settings=settings,
        )


def run_id(run: RunDir) -> str:
    """The run's name for their server: the same in each attempt, another one after ``--fresh``."""
    created = [row.get("time") for row in read_jsonl(run.events) if row.get("event") == "created"]
    return hashlib.sha256(f"{run.name} {run.path.absolute()} {created}".encode()).hexdigest()[:16]
