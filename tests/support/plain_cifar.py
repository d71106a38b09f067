"""The recipe of configs/cifar10.yaml as a PyTorch script of one process, which knows nothing of this repository.

    python plain_cifar.py JOB.json

JOB.json says which images each batch has and what to seed with before they are cropped and mirrored, where CIFAR-10's files and the
first weights are, how large a crop is, and how many steps the cosine takes (0: the learning rate stays). The losses are printed.
"""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
STD = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """For images of 32×32: a 3×3 convolution first, and no pool after it."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.fc = nn.Linear(512, 10)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


def read_cifar(folder):
    images, labels = [], []
    for number in range(1, 6):
        batch = pickle.loads((Path(folder) / f"data_batch_{number}").read_bytes(), encoding="latin1")
        images.append(batch["data"].reshape(-1, 3, 32, 32))
        labels += batch["labels"]
    return torch.from_numpy(np.concatenate(images)), torch.tensor(labels)


def augment(images, size, seed):
    """A crop of the padded image, a mirror image half of the time, and the channels' usual scale."""
    torch.manual_seed(seed)
    places = 32 + 8 - size + 1
    tops, lefts = torch.randint(places, (len(images),)), torch.randint(places, (len(images),))
    mirrored = torch.rand(len(images)) < 0.5
    made = []
    for image, top, left, mirror in zip(functional.pad(images, (4, 4, 4, 4)), tops, lefts, mirrored, strict=True):
        crop = image[:, top : top + size, left : left + size]
        made.append(crop.flip(2) if mirror else crop)
    return (torch.stack(made).float() / 255 - MEAN) / STD


def main(job):
    torch.set_num_threads(1)
    images, labels = read_cifar(job["data"])
    model = ResNet18()
    model.load_state_dict(torch.load(job["weights"], weights_only=True))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=job["cosine"]) if job["cosine"] else None

    losses = []
    model.train()
    for batch in job["batches"]:
        inputs, targets = augment(images[batch["images"]], job["size"], batch["seed"]), labels[batch["images"]]
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
