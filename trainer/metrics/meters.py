"""Training sums kept on the device, one row for each virtual rank, so that logged numbers are the same bits on any number of workers."""

from __future__ import annotations

import torch

from trainer.distributed import World

LOSS, QUICK, COUNT, COUNTED = range(4)


class Meters:
    """Sums of the loss, of the task's quick metric and of samples, since the last logged row (the window) and since the epoch began.

    Args:
        leaves: how many virtual ranks this worker plays.
        device: where the sums are kept.
        quick_name: the quick metric's name; None: the task has none.
    """

    def __init__(self, leaves: int, device: torch.device, quick_name: str | None = None) -> None:
        self.quick_name, self.quick_seen = quick_name, False
        self.window = torch.zeros(leaves, 4, dtype=torch.float64, device=device)
        self.epoch = torch.zeros(leaves, 4, dtype=torch.float64, device=device)
        self.counts = [0] * leaves  # of the window, kept in python: they are known without asking the device
        self.counted = [0] * leaves  # of those that the quick metric is of
        # 0-dimensional views made once: indexing a tensor costs as much as the addition
        self.losses = [row[LOSS] for row in self.window]
        self.quicks = [row[QUICK] for row in self.window]
        self.places = [row[COUNTED] for row in self.window]
        self._marked: tuple[torch.Tensor, list[int], list[int]] | None = None

    def add(self, place: int, count: int, loss: torch.Tensor, quick: torch.Tensor | tuple[torch.Tensor, torch.Tensor] | None) -> None:
        """Add one micro-batch: its mean loss (0-dimensional) times its samples, and its quick sum. Nothing waits for the device.

        A quick sum of its own number of places comes with that.
        """
        self.counts[place] += count
        self.losses[place].add_(loss, alpha=count)
        if quick is None:
            return
        self.quick_seen = True
        if isinstance(quick, tuple):
            quick, places = quick
            self.places[place].add_(places)
        else:
            self.counted[place] += count
        self.quicks[place].add_(quick)

    def mark(self) -> None:
        """Remember the open sums, in case the step that begins now is left out."""
        self._marked = self.window.clone(), list(self.counts), list(self.counted)

    def roll_back(self) -> None:
        """Go back to the mark."""
        assert self._marked is not None
        window, self.counts, self.counted = self._marked
        self.window.copy_(window)

    def close_window(self, world: World) -> dict[str, float]:
        """The window's means over all workers; the window starts anew. Every rank calls it at the same step."""
        self._settle()
        sums = world.gather(self.window.cpu().clone())
        self.epoch += self.window
        self.window.zero_()
        return self._means(sums)

    def close_epoch(self, world: World) -> dict[str, float]:
        """The epoch's means over all workers; everything starts anew."""
        self._settle()
        self.epoch += self.window
        sums = world.gather(self.epoch.cpu().clone())
        self.epoch.zero_()
        self.window.zero_()
        return self._means(sums)

    def state(self, world: World) -> torch.Tensor:
        """The open sums of all virtual ranks, float64 (V, 2, 4): what a checkpoint keeps."""
        self._settle()
        return world.gather(torch.stack([self.window, self.epoch], dim=1).cpu())

    def load(self, state: torch.Tensor, leaves: range) -> None:
        """Take this worker's rows back."""
        if state.shape[-1] == COUNTED:  # an older checkpoint's: every sample counted
            state = torch.cat([state, state[..., COUNT:]], -1)
        mine = state[leaves.start : leaves.stop].to(self.window.device)
        self.window.copy_(mine[:, 0])
        self.epoch.copy_(mine[:, 1])

    def _settle(self) -> None:
        for column, counts in ((COUNT, self.counts), (COUNTED, self.counted)):
            self.window[:, column] += torch.tensor(counts, dtype=torch.float64, device=self.window.device)
        self.counts, self.counted = ([0] * len(self.counts) for _ in range(2))

    def _means(self, sums: torch.Tensor) -> dict[str, float]:
        return means(sums, self.quick_name if self.quick_seen else None)


def means(sums: torch.Tensor, quick_name: str | None) -> dict[str, float]:
    """Means from rows of (loss, quick, count, counted), added one after another in the given order: float64 on the CPU, (n, 4)."""
    totals = in_order(sums)
    count = totals[COUNT]
    found = {"loss": totals[LOSS] / count} if count else {}
    if quick_name is not None and totals[COUNTED]:
        found[quick_name] = totals[QUICK] / totals[COUNTED]
    return found


def in_order(rows: torch.Tensor) -> list[float]:
    """The sums of the columns, row after row: float64 on the CPU, (n, columns)."""
    totals = [0.0] * rows.shape[1]
    for row in rows.tolist():
        totals = [total + value for total, value in zip(totals, row, strict=True)]
    return totals
