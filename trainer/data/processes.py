"""Loader workers: processes that read data for one training worker, never stop it, and never outlive it.

They come from a fork server with torch loaded, started by the training worker: a fork of the training worker itself would
copy locks that gloo's, TensorBoard's and the heartbeat's threads hold at that moment, and CUDA's context. The server
costs one import of torch (about a second, beside the training worker's own start when `start_server` is called early);
a loader worker then starts in about 0.1 s.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, get_worker_info

from trainer.files import private

# Asking to stop is the training worker's business: it decides at which step. Terminals and Slurm signal every process.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

# The environment's variable that says where a loader worker writes its stacks when it is asked by SIGQUIT: a path without its end.
STACKS = "OSTINATO_STACKS"


def start_server() -> None:
    """Start the server that loader workers are forked from; returns at once, while the server still imports torch."""
    modules = ["trainer.data.in_server", "torch", "trainer.data.loader"]
    if "torchvision" in sys.modules:
        modules.append("trainer.data.preload_vision")
    multiprocessing.set_forkserver_preload(modules)
    # A blocked signal stays blocked in the server and in all that it forks; here it is only held back for a moment.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        resource_tracker.ensure_running()  # unblocks SIGINT and SIGTERM when it is done
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_iterator(loader: DataLoader[Any]) -> Any:
    """Begin one pass over a DataLoader that has loader workers, starting them if they do not run yet."""
    with _may_have_children():
        start_server()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Got pickle error")  # torch's, in place of what follows
                return iter(loader)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if "pickle" not in str(error):
                raise
        # A lambda or an open file in the data set cannot travel to a new process: only a fork inherits it, with its risks.
        loader.multiprocessing_context = "fork"
        return iter(loader)


def entry() -> Callable[[int], None]:
    """The `worker_init_fn` of a DataLoader that is made now: what loader workers compute has the bits that it would have here.

    The sum of a large image depends on the number of threads, so theirs is this process's.
    """
    return functools.partial(_enter_loader_worker, torch.get_num_threads(), torch.get_deterministic_debug_mode(), os.environ.get(STACKS))


def _enter_loader_worker(threads: int, deterministic: int, stacks: str | None, _: int) -> None:
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)  # use_deterministic_algorithms would import the compiler: a second of CPU time
    here: Any = get_worker_info()
    if threads > 1 and multiprocessing.current_process()._start_method == "fork":  # type: ignore[attr-defined]
        here.dataset.read_in_own_thread()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if stacks:
        with contextlib.suppress(OSError):  # a full disk: reading goes on without
            file = open(_stacks_of(stacks, os.getpid()), "w", opener=private)  # noqa: SIM115 - open until the process ends
            faulthandler.register(signal.SIGQUIT, file=file, all_threads=True, chain=False)
    # The parent process is the fork server, so neither getppid nor a parent-death signal tells of the training worker's end.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stacks_of(stacks: str, pid: int) -> Path:
    return Path(f"{stacks}.loader-{pid}.txt")


def stop_iterator(iterator: Any) -> None:
    """End a DataLoader iterator's processes, also those that hang in a read; files for stacks that nobody asked for go with them."""
    if hasattr(iterator, "_shutdown_workers"):
        workers = [worker for worker in iterator._workers if worker.is_alive()]
        ender = threading.Timer(5.0, _kill, [workers])  # torch would wait and send SIGTERM, which they ignore
        ender.daemon = True
        ender.start()
        iterator._shutdown_workers()
        ender.cancel()
        _kill(workers)
        _remove_empty_stacks([worker.pid for worker in iterator._workers])


def _kill(workers: list[Any]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.kill()


def _remove_empty_stacks(pids: list[int]) -> None:
    if stacks := os.environ.get(STACKS):
        for path in (_stacks_of(stacks, pid) for pid in pids):
            with contextlib.suppress(OSError):
                if path.stat().st_size == 0:
                    path.unlink()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # a pipe that closes with the training worker, however it ends
        os._exit(1)


@contextmanager
def _may_have_children() -> Iterator[None]:
    """Let a daemonic process start processes.

    multiprocessing forbids it because a terminated daemon would leave its children behind; ours end by themselves.
    """
    config: dict[str, Any] = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    daemon = config.pop("daemon", None)
    try:
        yield
    finally:
        if daemon is not None:
            config["daemon"] = daemon
