"""One worker's place in the job: rank, world size, device, process group."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from trainer.config.schema import HardwareSection
from trainer.errors import ConfigError


@dataclass(frozen=True)
class World:
    """Where this worker stands among the others."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the one that writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))  # a CPU tensor: gloo, whatever the device

    def broadcast_int(self, value: int) -> int:
        """Rank 0's whole number, on every rank."""
        if self.size == 1:
            return value
        box = torch.tensor([value], dtype=torch.int64)
        dist.broadcast(box, src=0)
        return int(box.item())

    def broadcast_text(self, value: str) -> str:
        """Rank 0's text, on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]

    def gather(self, rows: torch.Tensor) -> torch.Tensor:
        """Every rank's CPU tensor of shape (n, …), one below the other in rank order: (world size * n, …)."""
        if self.size == 1:
            return rows
        parts = [torch.empty_like(rows) for _ in range(self.size)]
        dist.all_gather(parts, rows)
        return torch.cat(parts)


def pick_device(wanted: str, local_rank: int, local_size: int) -> torch.device:
    """The device of one worker: its own GPU where there is one for each worker of this node, else the CPU.

    Raises:
        ConfigError: CUDA is asked for and there are fewer visible devices than workers.
    """
    count = torch.cuda.device_count() if wanted != "cpu" else 0
    if wanted == "cuda" and count < local_size:
        raise ConfigError(
            f"hardware.device: cuda asks for a GPU for each of the {local_size} workers here, {count} visible; "
            "start fewer workers or set hardware.device=cpu"
        )
    if count >= local_size and count > 0:
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


def join(hardware: HardwareSection) -> World:
    """Meet the other workers and return this one's place.

    The variables are torchrun's: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE; without them the job is one process. On one machine
    started by `ostinato` the meeting point is a file (OSTINATO_STORE) in a private folder, so that nothing listens for it; on several
    it is the store of their launchers (OSTINATO_MEETING, host:port/name).
    """
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank, local_size = int(os.environ.get("LOCAL_RANK", rank)), int(os.environ.get("LOCAL_WORLD_SIZE", size))
    # A launcher has settled the device for all attempts of a start.
    device = pick_device(os.environ.get("OSTINATO_DEVICE", hardware.device), local_rank, local_size)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    world = World(rank, size, local_rank, local_size, device)
    if size > 1:
        if local_size == size and Path("/sys/class/net/lo").exists():
            for library in ("GLOO", "NCCL"):  # their own sockets stay on this machine
                os.environ.setdefault(f"{library}_SOCKET_IFNAME", "lo")
        _init_process_group(world, timedelta(seconds=hardware.collective_timeout_s))
    return world


def _init_process_group(world: World, timeout: timedelta) -> None:
    # One group with two backends: CPU tensors (flags, meters) go over gloo and never touch the device's stream.
    backend = "cpu:gloo,cuda:nccl" if world.device.type == "cuda" else "gloo"
    prefix = os.environ.get("OSTINATO_STORE")
    meeting = os.environ.get("OSTINATO_MEETING")
    store: dist.Store | None = None
    if meeting:
        place, _, name = meeting.partition("/")
        host, _, port = place.rpartition(":")
        store = dist.PrefixStore(name, dist.TCPStore(host, int(port), is_master=False, wait_for_workers=False, timeout=timeout))
    elif prefix:
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = dist.FileStore(f"{prefix}-{restart}", world.size)
    dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=timeout)


def leave(world: World) -> None:
    """Part from the others in good order: a process that leaves while a peer still talks to it can abort that peer.

    The caller has let go of the model by now. A DistributedDataParallel that is the last to hold the process group takes it along while
    it holds Python's lock, for which the group's own thread may be waiting: the process would hang, one time in some fifty.
    """
    if world.size > 1 and dist.is_initialized():
        gc.collect()  # a model that is part of a cycle goes now, too
        world.barrier()
        dist.destroy_process_group()
