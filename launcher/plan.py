"""Config + command line -> Job: what will be started, decided before anything is (pure, free of torch)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.config.checks import divisors
from trainer.config.schema import Config
from trainer.errors import ConfigError

FLAG = "--nproc-per-node"


@dataclass(frozen=True)
class Job:
    """One run as it will be started.

    Args:
        config: the config file.
        overrides: ``section.key=value`` from the command line.
        run_dir: the run folder.
        workers: worker processes.
        argv: the command that a worker's work equals.
        env: variables that each worker gets.
        device: what the config asks to compute on.
        fresh: begin anew where a run exists already.
    """

    config: str
    overrides: tuple[str, ...]
    run_dir: str
    workers: int
    argv: tuple[str, ...]
    env: dict[str, str]
    device: str = "auto"
    fresh: bool = False

    def as_json(self) -> dict[str, Any]:
        """The job as plain types."""
        return asdict(self)

    def as_text(self) -> str:
        """The job for people, one fact a line."""
        variables = " ".join(f"{name}={value}" for name, value in self.env.items())
        rows = {
            "config": " ".join((self.config, *self.overrides)),
            "run folder": self.run_dir + (" (begun anew)" if self.fresh else ""),
            "workers": f"{self.workers} on this machine",
            "each worker": " ".join(self.argv),
            "variables": variables,
        }
        return "\n".join(f"{name + ':':<13}{value}" for name, value in rows.items())


def asked_workers(text: str) -> int | None:
    """The number after ``--nproc-per-node``; None for ``auto``.

    Raises:
        ConfigError: it is neither.
    """
    if text == "auto":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ConfigError(f"command line: {FLAG}={text}: must be auto or a whole number >= 1")
    return int(text)


def choose_workers(asked: int | None, devices: int, virtual_ranks: int | None) -> int:
    """The number of workers on this machine.

    Args:
        asked: what the command line says; None for auto.
        devices: CUDA devices that the run may use.
        virtual_ranks: the run's fixed number of virtual ranks; None while it is not fixed yet.

    Returns:
        What was asked; on auto one for each device (as many as divide the virtual ranks), without devices one.

    Raises:
        ConfigError: the number asked for does not divide the virtual ranks.
    """
    if asked is None:
        fitting = range(1, max(devices, 1) + 1) if virtual_ranks is None else [d for d in divisors(virtual_ranks) if d <= max(devices, 1)]
        return max(fitting)
    if virtual_ranks is not None and virtual_ranks % asked:
        options = ", ".join(str(d) for d in divisors(virtual_ranks))
        raise ConfigError(f"command line: {FLAG}={asked}: cannot share {virtual_ranks} virtual ranks evenly; use one of {options}")
    return asked


def run_folder(config: Config, config_path: str) -> str:
    """The run folder's path: ``run.root`` and ``run.name``, which is the config file's stem unless it is set."""
    return str(Path(config.run.root) / (config.run.name or Path(config_path).stem))


def thread_limit(config: Config, workers: int, cpus: int) -> dict[str, str]:
    """Libraries read it when they are loaded, so it stands before any of them is: an upper bound, as a worker sets torch's own count."""
    return {"OMP_NUM_THREADS": str(max(1, cpus // workers) if config.hardware.threads == "auto" else config.hardware.threads)}


def make_job(
    config: Config, config_path: str, overrides: Sequence[str], *, workers: int, cpus: int, environ: Mapping[str, str], fresh: bool
) -> Job:
    """The job for one machine.

    Args:
        config: the config, as loaded.
        config_path: its file.
        overrides: ``section.key=value`` from the command line.
        workers: worker processes.
        cpus: processors that this job may use.
        environ: the launcher's environment; a network interface set there is kept.
        fresh: begin anew where a run exists already.
    """
    run_dir = run_folder(config, config_path)
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    env = {
        **thread_limit(config, workers, cpus),
        # Workers of one machine meet on the loopback interface: no other machine can reach them, and no host name is looked up.
        "GLOO_SOCKET_IFNAME": environ.get("GLOO_SOCKET_IFNAME", loopback),
        "NCCL_SOCKET_IFNAME": environ.get("NCCL_SOCKET_IFNAME", loopback),
        "OSTINATO_LAUNCHED": "1",
    }
    return Job(
        config=config_path,
        overrides=tuple(overrides),
        run_dir=run_dir,
        workers=workers,
        argv=("python", "-m", "trainer", run_dir),
        env=env,
        device=config.hardware.device,
        fresh=fresh,
    )
