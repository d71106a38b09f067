"""The loop that people write by hand: DDP, a DataLoader, an optimizer; nothing else.

``python -m benchmarks.peers.bare STEPS [samples|batches]``, alone or under torchrun. ``samples``: the DataLoader as in every tutorial,
one sample at a time; ``batches``: the faster way that few use, where the sampler gives whole batches of indices to a tensor data set.
"""

from __future__ import annotations

import os
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, TensorDataset

from benchmarks.tiny import BATCH, StampedSGD, TinyMLP, arrays


def main(steps: int, by: str) -> None:
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29577")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    dist.init_process_group("gloo", rank=rank, world_size=world)
    torch.manual_seed(0)
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world))
    model = DistributedDataParallel(TinyMLP())
    optimizer = StampedSGD(model.parameters(), lr=0.01, momentum=0.9)
    loss = nn.CrossEntropyLoss()
    data = TensorDataset(*arrays())
    sampler: DistributedSampler[object] = DistributedSampler(data)
    if by == "samples":
        loader = DataLoader(data, batch_size=BATCH // world, sampler=sampler, drop_last=True)
    else:
        loader = DataLoader(data, batch_size=None, sampler=BatchSampler(sampler, BATCH // world, drop_last=True))
    done, epoch = 0, 0
    while done < steps:
        sampler.set_epoch(epoch)
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss(model(inputs), targets).backward()
            optimizer.step()
            done += 1
            if done == steps:
                break
        epoch += 1
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "batches")
