"""The complete list of what a checkpoint holds. If a resume needs it, it is a field here; nothing else is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainer.distributed import World
from trainer.errors import CheckpointError
from trainer.metrics.meters import Meters
from trainer.optim.averaging import Swa
from trainer.optim.ema import Ema
from trainer.optim.learning_rate import LearningRate

POSITION = ("epoch", "epoch_step", "step", "samples", "best", "best_step", "counted", "bad_epochs", "skipped", "skipped_in_a_row", "rows")


@dataclass
class TrainState:
    """What training has come to.

    There is no generator's state and no loader's state: randomness and sample order are functions of the position.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LearningRate
    scaler: torch.amp.GradScaler | None
    ema: Ema | None
    meters: Meters
    loss: Any
    """A loss may have buffers, too."""
    swa: Swa | None = None

    epoch: int = 0
    """Epochs completed, their evaluation included."""
    epoch_step: int = 0
    """Updates completed in the open epoch."""
    step: int = 0
    """Updates completed."""
    samples: int = 0
    """Training samples used, counted with repetition."""
    best: float | None = None
    """The best value of the watched metric."""
    best_step: int | None = None
    """The step of the best value."""
    counted: float | None = None
    """The value of the last improvement that early stop counted: by its margin or more."""
    bad_epochs: int = 0
    """Evaluations since then."""
    skipped: int = 0
    """Updates left out because a gradient was not finite."""
    skipped_in_a_row: int = 0
    """Those since the last update that was made."""
    rows: int = 0
    """Rows in ``metrics.jsonl``."""

    def state_dict(self, world: World) -> dict[str, Any]:
        """Tensors and plain types only. Every rank calls it (the meters are gathered); the result is the same everywhere."""
        return {
            **{name: getattr(self, name) for name in POSITION},
            "model": self.model.state_dict(),
            "buffers": other_buffers(self.model),
            "loss": self.loss.state_dict() if isinstance(self.loss, nn.Module) else {},
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler is not None else None,
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "swa": self.swa.state_dict() if self.swa is not None else None,
            "meters": self.meters.state(world),
            "quick_seen": self.meters.quick_seen,
        }

    def load_state_dict(self, state: dict[str, Any], leaves: range) -> None:
        """Take a checkpoint's state back.

        Args:
            state: what `state_dict` gave.
            leaves: the virtual ranks that this worker plays now; they may be others than when it was saved.

        Raises:
            CheckpointError: the checkpoint belongs to another model or optimizer; the text names what differs.
        """
        check_fits(self.model.state_dict(), state.get("model", {}))
        try:
            self.model.load_state_dict(state["model"])
            load_other_buffers(self.model, state["buffers"])
            if isinstance(self.loss, nn.Module):
                self.loss.load_state_dict(state["loss"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            if self.scaler is not None:
                self.scaler.load_state_dict(state["scaler"])
            if self.ema is not None:
                self.ema.load_state_dict(state["ema"])
            self.meters.load(state["meters"], leaves)
            if self.swa is not None:
                self.swa.load_state_dict(state["swa"])
            self.meters.quick_seen = state["quick_seen"]
            for name in POSITION:
                setattr(self, name, state[name] if name != "counted" else state.get(name, state["best"]))  # they were one value once
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as fault:
            raise CheckpointError(f"the checkpoint does not fit this config: {fault}") from fault


def other_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """The buffers that ``state_dict`` leaves out (``persistent=False``): training moves them all the same."""
    known = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in known}


@torch.no_grad()
def load_other_buffers(model: nn.Module, values: dict[str, torch.Tensor]) -> None:
    """Take them back."""
    for name, buffer in other_buffers(model).items():
        buffer.copy_(values[name])


def check_fits(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Refuse the weights of another model.

    Raises:
        CheckpointError: names the first few tensors that are missing, strange, or of another shape.
    """
    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is not in the model" for name in found if name not in wanted]
    faults += [
        f"{name} has shape {tuple(found[name].shape)}, the model {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if isinstance(tensor, torch.Tensor) and isinstance(found.get(name), torch.Tensor) and found[name].shape != tensor.shape
    ]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise CheckpointError("the checkpoint is of another model: " + "; ".join(faults[:5]) + more)
