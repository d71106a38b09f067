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
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Seat:
    """Where one launcher stands among those of a job's nodes.

    Args:
        rank: its number; node 0 decides for all.
        size: how many nodes there are.
        endpoint: ``host:port`` at which node 0 listens; port 0: any free one.
        meeting: a file on a shared disk in which node 0 says where it listens; empty: the others know the endpoint.
        host: what this node is called; empty: by its own name.
    """

    rank: int = 0
    size: int = 1
    endpoint: str = ""
    meeting: str = ""
    host: str = ""


@dataclass(frozen=True)
class Job:
    """One run as it will be started.

    Args:
        config: the config file.
        overrides: ``section.key=value`` from the command line.
        run_dir: the run folder.
        workers: worker processes, of all nodes together.
        argv: the command that a worker's work equals.
        env: variables that each worker gets.
        device: what the config asks to compute on.
        fresh: begin anew where a run exists already.
        seat: this machine's place among the job's nodes.
    """

    config: str
    overrides: tuple[str, ...]
    run_dir: str
    workers: int
    argv: tuple[str, ...]
    env: dict[str, str]
    device: str = "auto"
    fresh: bool = False
    seat: Seat = Seat()

    @property
    def per_node(self) -> int:
        """Workers of each node."""
        return self.workers // self.seat.size

    def as_json(self) -> dict[str, Any]:
        """The job as plain types."""
        return asdict(self)

    def _placement(self) -> str:
        seat = self.seat
        if seat.size == 1:
            return f"{self.workers} on this machine"
        where = seat.endpoint or "a place that node 0 chooses"
        return f"{self.per_node} on each of {seat.size} nodes, which meet at {where}; this is node {seat.rank}"

    def as_text(self) -> str:
        """The job for people, one fact a line."""
        variables = " ".join(f"{name}={value}" for name, value in self.env.items())
        rows = {
            "config": " ".join((self.config, *self.overrides)),
            "run folder": self.run_dir + (" (begun anew)" if self.fresh else ""),
            "workers": self._placement(),
            "each worker": " ".join(self.argv),
            "variables": variables,
        }
        return "\n".join(f"{name + ':':<13}{value}" for name, value in rows.items())


def make_seat(nnodes: int, node_rank: int, endpoint: str | None) -> Seat:
    """This machine's place, from torchrun's three options.

    Raises:
        ConfigError: they do not go together.
    """
    if not 0 <= node_rank < nnodes:
        raise ConfigError(f"command line: --node-rank={node_rank}: must be 0 to {nnodes - 1}, as --nnodes={nnodes}")
    if nnodes == 1:
        if endpoint is not None:
            raise ConfigError("command line: --rdzv-endpoint: it is where several nodes meet; set --nnodes too, or leave it out")
        return Seat()
    if endpoint is None:
        raise ConfigError("command line: --nnodes: the nodes need a place to meet; set --rdzv-endpoint=HOST:PORT, node 0's")
    host, colon, port = endpoint.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"command line: --rdzv-endpoint={endpoint}: must be HOST:PORT, such as node0:29400")
    return Seat(node_rank, nnodes, endpoint)


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


def choose_workers(asked: int | None, devices: int, virtual_ranks: int | None, nodes: int = 1) -> int:
    """The number of workers on this machine.

    Args:
        asked: what the command line says; None for auto.
        devices: CUDA devices that the run may use.
        virtual_ranks: the run's fixed number of virtual ranks; None while it is not fixed yet.
        nodes: machines with as many workers each.

    Returns:
        What was asked; on auto one for each device (as many as divide the virtual ranks), without devices one.

    Raises:
        ConfigError: the number asked for does not divide the virtual ranks.
    """
    if asked is None:
        most = max(devices, 1)
        return max((n for n in range(1, most + 1) if virtual_ranks is None or virtual_ranks % (n * nodes) == 0), default=most)
    if virtual_ranks is not None and virtual_ranks % (asked * nodes):
        fitting = [d // nodes for d in divisors(virtual_ranks) if d % nodes == 0]
        options = f"use one of {', '.join(map(str, fitting))}" if fitting else f"{nodes} nodes do not divide them either"
        where = f" on {nodes} nodes" if nodes > 1 else ""
        raise ConfigError(f"command line: {FLAG}={asked}: cannot share {virtual_ranks} virtual ranks evenly{where}; {options}")
    return asked


def run_folder(config: Config, config_path: str) -> str:
    """The run folder's path: ``run.root`` and ``run.name``, which is the config file's stem unless it is set."""
    return str(Path(config.run.root) / (config.run.name or Path(config_path).stem))


def thread_limit(config: Config, workers: int, cpus: int) -> dict[str, str]:
    """Libraries read it when they are loaded, so it stands before any of them is: an upper bound, as a worker sets torch's own count."""
    return {"OMP_NUM_THREADS": str(max(1, cpus // workers) if config.hardware.threads == "auto" else config.hardware.threads)}


def make_job(
    config: Config,
    config_path: str,
    overrides: Sequence[str],
    *,
    workers: int,
    cpus: int,
    environ: Mapping[str, str],
    fresh: bool,
    seat: Seat = Seat(),
) -> Job:
    """The job, as one machine sees it.

    Args:
        config: the config, as loaded.
        config_path: its file.
        overrides: ``section.key=value`` from the command line.
        workers: worker processes of each node.
        cpus: processors that this job may use.
        environ: the launcher's environment; a network interface set there is kept.
        fresh: begin anew where a run exists already.
        seat: this machine's place among the job's nodes.
    """
    run_dir = run_folder(config, config_path)
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    env = {**thread_limit(config, workers, cpus), "OSTINATO_LAUNCHED": "1"}
    if seat.size == 1:
        # Workers of one machine meet on the loopback interface: no other machine can reach them, and no host name is looked up.
        env |= {name: environ.get(name, loopback) for name in INTERFACES}
    return Job(
        config=config_path,
        overrides=tuple(overrides),
        run_dir=run_dir,
        workers=workers * seat.size,
        argv=("python", "-m", "trainer", run_dir),
        env=env,
        device=config.hardware.device,
        fresh=fresh,
        seat=seat,
    )
