"""Real gloo ranks for tests: processes forked from a server that has imported torch, so that a job of four starts in tenths of a second."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.preload"])


class RankFailed(AssertionError):
    """A rank raised; the text is its traceback."""


def run_ranks(function: Callable[..., Any], world_size: int, *arguments: Any, timeout_s: float = 120.0) -> list[Any]:
    """Call ``function(*arguments)`` in `world_size` processes with torchrun's variables set; their results in rank order.

    Raises:
        RankFailed: a rank raised, died or did not end in time.
    """
    with tempfile.TemporaryDirectory() as folder:
        pairs = [_context.Pipe(duplex=False) for _ in range(world_size)]
        processes = [
            _context.Process(target=_rank, args=(function, arguments, rank, world_size, f"{folder}/store", sender))
            for rank, (_, sender) in enumerate(pairs)
        ]
        for process in processes:
            process.start()
        for _, sender in pairs:
            sender.close()
        try:
            return _collect([receiver for receiver, _ in pairs], timeout_s)
        except TimeoutError as late:
            raise RankFailed(f"{late}\n{_stacks(folder, [process.pid for process in processes if process.is_alive()])}") from None
        finally:
            for process in processes:
                process.kill()
                process.join()


def _collect(receivers: list[Connection], timeout_s: float) -> list[Any]:
    results: dict[int, Any] = {}
    open_ones = {id(receiver): rank for rank, receiver in enumerate(receivers)}
    while len(results) < len(receivers):
        ready = wait([r for r in receivers if open_ones[id(r)] not in results], timeout=timeout_s)
        if not ready:
            missing = [rank for rank in range(len(receivers)) if rank not in results]
            raise TimeoutError(f"ranks {missing} did not end within {timeout_s} s")
        for receiver in ready:
            rank = open_ones[id(receiver)]
            try:
                ok, value = receiver.recv()  # type: ignore[union-attr]
            except EOFError:
                raise RankFailed(f"rank {rank} died without a word") from None
            if not ok:
                raise RankFailed(f"rank {rank}:\n{value}")
            results[rank] = value
    return [results[rank] for rank in range(len(receivers))]


def _stacks(folder: str, alive: list[int | None]) -> str:
    """Where the ranks stand that have not ended: what each wrote when it was asked."""
    for pid in alive:
        if pid is not None:
            os.kill(pid, signal.SIGUSR1)
    time.sleep(2)
    return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(Path(folder).glob("stacks-*")))


def _rank(function: Callable[..., Any], arguments: tuple[Any, ...], rank: int, size: int, store: str, sender: Connection) -> None:
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(size),
        OSTINATO_STORE=store,
        GLOO_SOCKET_IFNAME="lo",
    )
    stacks = open(f"{Path(store).parent}/stacks-{rank}", "w")  # noqa: SIM115 - open until the process ends
    faulthandler.register(signal.SIGUSR1, stacks)
    import torch

    torch.set_num_threads(1)
    try:
        sender.send((True, function(*arguments)))
    except BaseException:
        sender.send((False, traceback.format_exc()))
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        os._exit(0)
