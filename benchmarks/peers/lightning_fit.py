"""The tiny job with Lightning's Trainer, as its defaults are: ``python -m benchmarks.peers.lightning_fit STEPS WORKERS [lean]``."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.tiny import BATCH, StampedSGD, TinyMLP, arrays


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.loss = TinyMLP(), nn.CrossEntropyLoss()

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        inputs, targets = batch
        found = self.loss(self.model(inputs), targets)
        self.log("loss", found)
        return found

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return StampedSGD(self.parameters(), lr=0.01, momentum=0.9)


def main(steps: int, workers: int) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_steps=steps, accelerator="cpu", devices=workers, strategy="ddp" if workers > 1 else "auto", default_root_dir=folder
        )
        trainer.fit(Module(), DataLoader(TensorDataset(*arrays()), batch_size=BATCH // workers, shuffle=True, drop_last=True))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
