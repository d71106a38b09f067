"""One update of the weights: every virtual rank's forward and backward pass, the tree sum, clipping, the optimizer.

Nothing here waits for the device: sums stay where they are computed until somebody logs them.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from trainer.config.schema import Config
from trainer.distributed import World
from trainer.errors import TrainingError
from trainer.heartbeat import Place
from trainer.non_finite import Losses
from trainer.reduce import SubtreeStack, TreeReduction, leaves_of
from trainer.seed import seed_micro_batch
from trainer.state import TrainState
from trainer.tasks.base import Task

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

# `Buffers` synchronises them, once a step. torch 2.13 renames DDP's option, and warns of the old name.
_ddp_options = inspect.signature(DistributedDataParallel).parameters
NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if "forward_sync_buffers" in _ddp_options else "broadcast_buffers": False}


class Update:
    """Makes one update from one global batch.

    Args:
        config: the run's config, `virtual_ranks` filled in.
        world: this worker's place.
        state: the bare module on its device, its optimizer, the loss scaler, the average to keep up and the meters.
        task: gives the mean loss over a micro-batch's samples, and what is counted of it.
        batch_transforms: applied to each micro-batch, inputs and targets.
        place: told of each phase.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        state: TrainState,
        task: Task,
        batch_transforms: Sequence[Callable[[Any, Any], tuple[Any, Any]]],
        place: Place,
    ) -> None:
        self.place = place
        self.world, self.model, self.task, self.optimizer = world, state.model, task, state.optimizer
        self.batch_transforms = list(batch_transforms)
        self.scaler, self.ema, self.meters = state.scaler, state.ema, state.meters
        self.seed, self.clip = config.seed, config.train.clip
        self.device = world.device
        assert isinstance(config.train.virtual_ranks, int)
        self.virtual_ranks = config.train.virtual_ranks
        self.leaves = leaves_of(world.rank, world.size, self.virtual_ranks)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.losses = Losses(len(self.leaves), world.device)
        self.skip = config.train.non_finite == "skip"
        self.skipped, self.healthy = False, True
        self.buffers = Buffers(self.model, world, self.leaves, self.skip)
        self.amp_dtype = AMP_DTYPES.get(config.train.amp)
        self.stack = SubtreeStack()
        self.complete = False  # not yet known
        self.forward: nn.Module = self.model
        self.ddp: DistributedDataParallel | None = None
        self.reduction: TreeReduction | None = None
        if world.size > 1:
            self.ddp = self.forward = self._wrap()

    def close(self) -> None:
        """Let go of the model, so that it can be wrapped anew."""
        if self.reduction is not None:
            self.reduction.thread.shutdown()
        self.ddp = self.reduction = None
        self.forward = self.model
        gc.collect()  # the wrapper's hooks on the parameters go with it

    def _wrap(self) -> DistributedDataParallel:
        ddp = DistributedDataParallel(
            self.model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            **NO_BUFFERS,
            gradient_as_bucket_view=True,
        )
        self.reduction = reduction = TreeReduction(self.world.rank, self.world.size, self.virtual_ranks, self.parameters)
        self.stack = reduction.stack
        ddp.register_comm_hook(None, reduction.hook)
        return ddp

    def __call__(
        self, micro_batches: Sequence[tuple[Any, Any]], step: int, counts: Sequence[int], samples: int, want_norm: bool = False
    ) -> torch.Tensor | None:
        """Update the weights once.

        Args:
            micro_batches: (inputs, targets) for each of this worker's virtual ranks, in order.
            step: updates completed before this one.
            counts: samples in each of the micro-batches.
            samples: the global batch's size; an epoch's last one may be smaller than the rest.
            want_norm: return the gradients' total 2-norm before clipping, a 0-dimensional tensor on the device.

        With ``train.non_finite: skip`` an update whose gradients are not finite is left out, on every worker alike, and `skipped` says so.
        """
        if self.skip:
            self.meters.mark()
        self.gradients(micro_batches, step, counts, samples)
        self.losses.end_step(step)
        self.healthy = not self.losses.bad or all(bool(torch.isfinite(p).all()) for p in self.parameters)
        self.place.phase = "step"
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        norm = self._clip(want_norm or self.skip)
        self.skipped = self._step(norm)
        if self.ema is not None and not self.skipped:
            self.ema.update(self.model)
        return norm

    def _step(self, norm: torch.Tensor | None) -> bool:
        """Let the optimizer move the weights; whether it was left out. It waits for the device only under ``non_finite: skip``."""
        if self.scaler is None:
            if self.skip and norm is not None and not bool(torch.isfinite(norm)):
                return True
            self.optimizer.step()
            return False
        before = self.scaler.get_scale() if self.skip else 0.0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.skip and self.scaler.get_scale() < before  # it leaves an update out, and lowers its scale

    def undo(self) -> None:
        """Take back what an update that was left out has changed besides the weights. Every worker calls it."""
        self.buffers.restore()
        self.meters.roll_back()

    def gradients(self, micro_batches: Sequence[tuple[Any, Any]], step: int, counts: Sequence[int], samples: int) -> None:
        """Leave in every parameter's ``.grad`` the mean gradient of the global batch, the same bits on every worker."""
        self.optimizer.zero_grad(set_to_none=True)
        self.buffers.begin_step()
        last = self.leaves[-1]
        for place, (leaf, batch, count) in enumerate(zip(self.leaves, micro_batches, counts, strict=True)):
            seed_micro_batch(self.seed, step, leaf, self.device)
            self.buffers.begin_leaf(place)
            if leaf == last:
                self._leaf(batch, place, count, samples)
            else:
                with self.ddp.no_sync() if self.ddp is not None else contextlib.nullcontext():
                    self._leaf(batch, place, count, samples)
                self.stack.push(leaf, self._take_gradients())
            self.buffers.end_leaf(leaf)
        if self.ddp is None and self.virtual_ranks > 1:
            self.stack.push(last, self._take_gradients())
            for parameter, gradient in zip(self.parameters, self.stack.total(), strict=True):
                parameter.grad = gradient
        self.stack.clear()
        if not self.complete:
            self._see_that_all_take_part()
        self.buffers.end_step()

    def _see_that_all_take_part(self) -> None:
        """A parameter without a gradient would make the sum depend on who computes it, and DDP waits for it in vain."""
        idle = [name for name, p in self.model.named_parameters() if p.requires_grad and p.grad is None]
        if idle:
            more = f" and {len(idle) - 3} more" if len(idle) > 3 else ""
            raise TrainingError(
                f"model: {', '.join(idle[:3])}{more} took no part in the first step; use every trainable parameter in each step, "
                "or freeze it (requires_grad = False)"
            )
        self.complete = True

    def _leaf(self, batch: tuple[Any, Any], place: int, count: int, samples: int) -> None:
        self.place.phase = "forward"
        inputs, targets = to_device(batch, self.device)
        for transform in self.batch_transforms:
            inputs, targets = transform(inputs, targets)
        if self.amp_dtype is None:
            output, loss = self.task.run(self.forward, inputs, targets)
        else:
            with torch.autocast(self.device.type, self.amp_dtype):
                output, loss = self.task.run(self.forward, inputs, targets)
        with torch.no_grad():
            quick = self.task.quick(output, targets)
        self.meters.add(place, count, loss.detach(), quick)
        self.losses.add(place, loss.detach())
        if self.skip:  # an infinite loss can have finite gradients; through the sum of gradients every worker hears of it
            loss = loss * torch.where(torch.isfinite(loss.detach()), 1.0, torch.nan)
        self.place.phase = "backward"
        if count != samples:  # a share of the mean, so that the tree has only to add
            loss = loss * (count / samples)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _take_gradients(self) -> list[torch.Tensor | None]:
        taken = [parameter.grad for parameter in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        return taken

    def _clip(self, want_norm: bool) -> torch.Tensor | None:
        if self.clip.norm is not None:
            return nn.utils.clip_grad_norm_(self.parameters, self.clip.norm)
        norm = nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]) if want_norm else None
        if self.clip.value is not None:
            nn.utils.clip_grad_value_(self.parameters, self.clip.value)
        return norm


class Buffers:
    """BatchNorm's statistics and other buffers: all virtual ranks start a step from the same ones, virtual rank 0's update is kept.

    With one virtual rank a worker that is what DDP's ``broadcast_buffers`` means, done at the end of the step, so that evaluations,
    averages and checkpoints find the same buffers on every worker.
    """

    def __init__(self, model: nn.Module, world: World, leaves: range, may_restore: bool = False) -> None:
        self.world = world
        # Where the buffers hang, not the tensors: a model may put a new one in its place (`self.mean = 0.9 * self.mean + …`).
        self.slots = [(m._buffers, name) for m in model.modules() for name, buffer in m._buffers.items() if buffer is not None]
        self.several, self.remembers = len(leaves) > 1, len(leaves) > 1 or may_restore
        self.start: list[torch.Tensor] = []
        self.kept: list[torch.Tensor] = []
        by_dtype: dict[torch.dtype, list[int]] = {}
        tensors = self.tensors()
        for number, tensor in enumerate(tensors):
            by_dtype.setdefault(tensor.dtype, []).append(number)
        # One flat tensor for each dtype, so that a broadcast is one message; the views are made once.
        self.groups = []
        for dtype, numbers in by_dtype.items():
            sizes = [tensors[n].numel() for n in numbers]
            flat = torch.empty(sum(sizes), dtype=dtype, device=tensors[numbers[0]].device)
            views = [view.view(tensors[n].shape) for view, n in zip(flat.split(sizes), numbers, strict=True)]
            self.groups.append((flat, views, numbers))

    def tensors(self) -> list[torch.Tensor]:
        """The buffers as they are now."""
        return [buffers[name] for buffers, name in self.slots]  # type: ignore[misc]

    def begin_step(self) -> None:
        """Remember what every leaf starts from."""
        if self.remembers and self.slots:
            self.start, self.kept = [t.detach().clone() for t in self.tensors()], []

    def begin_leaf(self, place: int) -> None:
        """Put the step's first buffers back, if an earlier leaf of this worker has moved them."""
        if self.start and place > 0:
            _copy(self.tensors(), self.start)

    def end_leaf(self, leaf: int) -> None:
        """Keep virtual rank 0's update."""
        if self.several and self.start and leaf == 0:
            self.kept = [t.detach().clone() for t in self.tensors()]

    def end_step(self) -> None:
        """Leave virtual rank 0's buffers in the model, on every worker."""
        if self.kept:
            _copy(self.tensors(), self.kept)
        if self.world.size == 1 or not self.slots:
            return
        tensors = self.tensors()
        for flat, views, numbers in self.groups:
            mine = [tensors[n] for n in numbers]
            if self.world.is_main:
                _copy(views, mine)
            torch.distributed.broadcast(flat, src=0)
            if not self.world.is_main:
                _copy(mine, views)

    def restore(self) -> None:
        """Put the step's first buffers back: its update is left out."""
        if self.start:
            _copy(self.tensors(), self.start)


@torch.no_grad()
def _copy(into: list[torch.Tensor], values: list[torch.Tensor]) -> None:
    torch._foreach_copy_(into, values)


def to_device(batch: Any, device: torch.device) -> Any:
    """Move tensors, and lists, tuples and dicts of tensors; a copy from pinned memory does not wait."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return type(batch)(to_device(value, device) for value in batch)
    return batch
