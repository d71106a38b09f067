"""The tiny job with Accelerate: ``python -m benchmarks.peers.accelerate_loop STEPS``, alone or under ``accelerate launch --cpu``."""

from __future__ import annotations

import sys

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.tiny import BATCH, StampedSGD, TinyMLP, arrays


def main(steps: int) -> None:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    size = BATCH // accelerator.num_processes
    loader = DataLoader(TensorDataset(*arrays()), batch_size=size, shuffle=True, drop_last=True)
    bare = TinyMLP()
    model, optimizer, loader = accelerator.prepare(bare, StampedSGD(bare.parameters(), lr=0.01, momentum=0.9), loader)
    loss = nn.CrossEntropyLoss()
    done = 0
    while done < steps:
        for inputs, targets in loader:
            optimizer.zero_grad()
            accelerator.backward(loss(model(inputs), targets))
            optimizer.step()
            done += 1
            if done == steps:
                break
    accelerator.end_training()


if __name__ == "__main__":
    main(int(sys.argv[1]))
