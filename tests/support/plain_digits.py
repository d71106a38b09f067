"""The recipe of configs/digits.yaml as a PyTorch script of one process, which knows nothing of this repository.

    python plain_digits.py JOB.json

JOB.json says which rows of scikit-learn's digits each batch has, what to seed with, how often a batch is divided (gradient accumulation),
and how many steps OneCycleLR is made for (0: the learning rate stays). The losses of all batches are printed as a JSON list.
"""

import json
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def convolution(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def main(job):
    torch.set_num_threads(1)
    digits = load_digits()
    images = torch.tensor(digits.data / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    loader = DataLoader(TensorDataset(images, torch.tensor(digits.target)), batch_sampler=job["batches"])

    torch.manual_seed(job["seed"])
    model = nn.Sequential(
        convolution(1, 32),
        convolution(32, 32),
        nn.MaxPool2d(2),
        convolution(32, 64),
        convolution(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = None
    if job["one_cycle"]:
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=job["one_cycle"], cycle_momentum=False)

    losses = []
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        total = 0.0
        for x, y in zip(inputs.chunk(job["parts"]), targets.chunk(job["parts"]), strict=True):
            loss = criterion(model(x), y) / job["parts"]
            loss.backward()
            total += loss.item()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(total)
    return losses


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
