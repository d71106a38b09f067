"""What ``ostinato doctor`` asks torch: versions, devices, torchvision; and an all-reduce of two workers."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from trainer import errors
from trainer.config.schema import HardwareSection
from trainer.distributed import join, leave
from trainer.files import write_atomic
from trainer.outcome import Outcome, guarded

ALL_REDUCE_WITHIN_S = 20.0


def look_at_torch(options: Mapping[str, Any]) -> dict[str, Any]:
    """The version, what it is built for, and whether it computes."""
    right = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).square().sum().item() == 30.0
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "right": right,
        "distributed": dist.is_available() and dist.is_gloo_available(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def look_at_cuda(options: Mapping[str, Any]) -> dict[str, Any]:
    """The versions of CUDA's libraries, and each device: its memory, and whether it computes."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    nccl = torch.cuda.nccl.version() if there and dist.is_nccl_available() else None
    return {
        "built": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "available": there,
        "why": next((str(one.message).splitlines()[0] for one in said if "CUDA" in str(one.message)), None),
        "cudnn": torch.backends.cudnn.version() if there else None,
        "nccl": ".".join(map(str, nccl)) if isinstance(nccl, tuple) else None,
        "shown": sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*")),
        "hidden_by": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "devices": [_device(number) for number in range(torch.cuda.device_count())] if there else [],
    }


def _device(number: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": None, "total": None, "free": None, "why": None}
    try:
        facts["name"] = torch.cuda.get_device_name(number)
        facts["free"], facts["total"] = torch.cuda.mem_get_info(number)
        if torch.arange(4, device=f"cuda:{number}").square().sum().item() != 14:
            facts["why"] = "it computes wrongly"
    except Exception as fault:  # a device that has failed says so in many ways
        facts["why"] = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return facts


def look_at_torchvision(options: Mapping[str, Any]) -> dict[str, Any]:
    """Whether it can be imported, by itself or with `trainer.vision`'s help, and whether its compiled operators are there."""
    from trainer.vision import import_torchvision, operators_were_declared

    try:
        module = import_torchvision()
    except errors.TrainingError as fault:
        return {"version": None, "why": str(fault), "helped": False, "operators": None}
    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0, 0.5])
    try:
        kept = torch.ops.torchvision.nms(boxes, scores, 0.5).tolist()
        operators = None if kept == [0] else f"nms gave {kept}"
    except (RuntimeError, AttributeError) as fault:
        operators = str(fault).splitlines()[0]
    return {"version": str(module.__version__), "why": None, "helped": operators_were_declared(), "operators": operators}


def all_reduce(told: str) -> int:
    """The entry of a worker: add the ranks' numbers over gloo; rank 0 writes down the sum."""

    def work(outcome: Outcome) -> int:
        world = join(HardwareSection(device="cpu", collective_timeout_s=ALL_REDUCE_WITHIN_S))
        numbers = torch.full((1000,), float(world.rank + 1))
        dist.all_reduce(numbers)
        if world.is_main:
            write_atomic(Path(told), json.dumps([numbers.min().item(), numbers.max().item()]).encode(), durable=False)
        leave(world)
        return errors.DONE

    return guarded(work)
