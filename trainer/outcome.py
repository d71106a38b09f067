"""How a rank's work ends: what a fault means and what to do about it, said once, written down, and left with as an exit code."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from trainer import errors
from trainer.errors import OstinatoError
from trainer.rundir import write_json

log = logging.getLogger("trainer")


def _place(fault: BaseException) -> str:
    """The line of the user's own code in which a fault came up; empty where only torch's and our code took part."""
    libraries = (str(Path(torch.__file__).parent), str(Path(__file__).parent), sysconfig.get_paths()["stdlib"])
    frames = [f for f in traceback.extract_tb(fault.__traceback__) if not f.filename.startswith((*libraries, "<"))]
    return f" ({frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""


# What the libraries of the collectives say when a peer is gone: this worker is a victim, and the launcher looks for the cause.
PEER_GONE = re.compile(
    r"Connection (closed|reset|refused)|Socket (Timeout|closed)|Broken pipe|Read error|Write error|Timed out waiting|Wait timeout|"
    r"Connect timeout|NCCL (error|communicator)|remote process exited|unhandled (system|cuda) error|failed to (recv|send)",
    flags=re.IGNORECASE,
)
GPU_GONE = re.compile(
    r"CUDA error: .*(ECC|unspecified launch failure|busy or unavailable|hardware|NVLink|lost|fallen off|unknown error)", flags=re.IGNORECASE
)
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


class Known(NamedTuple):
    """A fault that a person can mend, or that the system is to blame for."""

    exit_code: int
    text: str
    peer_gone: bool = False
    """This worker is a victim."""
    again: bool = False
    """It need not happen again."""


def known_fault(fault: Exception) -> Known | None:
    """What a fault of the libraries means, and what to do about it; None: it is the user's code's or ours."""
    text = str(fault)
    found = re.match(r"(.+?) does not have a deterministic implementation", text)
    if found:
        return Known(
            errors.TRAINING_FAILED,
            f"{found[1]} has no deterministic implementation in torch {torch.__version__}, so no run could be repeated; "
            "use another operation, or set hardware.deterministic=false and do without the same bits",
        )
    found = re.match(r"Unable to cast (.+) to Tensor", text, flags=re.DOTALL)
    if found:  # the reduction's thread met it, and DDP wraps what it is handed
        text = f"the sum of gradients failed, because another rank is gone or stuck: {found[1].strip().splitlines()[0]}"
        return Known(errors.LOST, text, peer_gone=True)
    with_peers = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _place(fault)  # a user's own socket has no peers of ours
    if isinstance(fault, RuntimeError) and with_peers and PEER_GONE.search(text):
        text = f"a collective failed, because another rank is gone or stuck: {text.strip().splitlines()[0]}"
        return Known(errors.LOST, text, peer_gone=True)
    found = re.match(r"DataLoader worker \(pid\(?s?\)? ?([\d, ]+)\)? ?(exited unexpectedly|is killed by signal: (.+?)\.)", text)
    if found:
        how = f"was killed ({found[3].strip()})" if found[3] else "was killed"
        return Known(errors.LOST, f"a loader worker {how}; out of memory, or of shared memory (/dev/shm)?", again=True)
    found = re.match(r"Target (-?\d+) is out of bounds", text)
    if found:
        return Known(
            errors.TRAINING_FAILED, f"a label is {found[1]}, which the model has no output for; mend the labels or the model's num_classes"
        )
    if GPU_GONE.search(text):
        return Known(errors.LOST, f"a GPU has failed: {text.strip().splitlines()[0]}", again=True)
    if isinstance(fault, torch.OutOfMemoryError):
        return Known(
            errors.TRAINING_FAILED,
            "the GPU's memory is not enough for one micro-batch; more virtual ranks (train.virtual_ranks) make it smaller, "
            "and leave the global batch as it is",
        )
    if isinstance(fault, OSError) and fault.errno in NO_ROOM:
        what = fault.filename or "a file"
        return Known(errors.LOST, f"{what}: {fault.strerror}; nothing that was saved is lost: make room, and start again to go on")
    return None


class Outcome:
    """Where this rank writes down how it ended: known only once the ranks have agreed on the attempt's number."""

    path: Path | None = None
    told: tuple[int, str] | None = None
    """The exit code and the text that were written down."""

    def write(self, code: int, error: str | None = None, trace: str | None = None, **flags: bool) -> None:
        """Leave the launcher a file; torchrun turns every failure into exit code 1.

        Our launcher's private folder gets one as well: the run's own disk may be full.
        """
        self.told = code, error or ""
        facts = {"exit_code": code, "error": error, "traceback": trace, **flags, "time": time.time()}
        store, rank = os.environ.get("OSTINATO_STORE"), os.environ.get("RANK", "0")
        nearby = Path(store).with_name(f"outcome-{rank}.json") if store else None
        for path in (nearby, self.path):
            if path is not None:
                with contextlib.suppress(OSError):
                    write_json(path, facts)

    def write_fault(self, fault: BaseException) -> None:
        """Leave the fault that ends this rank: what is to be done about it, or where it came up."""
        trace = None
        if isinstance(fault, OstinatoError):
            known = Known(fault.exit_code, str(fault))
        elif isinstance(fault, SystemExit):  # a stray exit() in the user's code must not look like success
            known = Known(errors.TRAINING_FAILED, f"the program was left by exit({fault.code!r}){_place(fault)}")
        else:
            found = known_fault(fault) if isinstance(fault, Exception) else None
            if found is None:
                trace = "".join(traceback.format_exception(fault))
                log.error("the worker failed", exc_info=fault)
            known = found or Known(errors.TRAINING_FAILED, f"{type(fault).__name__}: {fault}{_place(fault)}")
        self.write(known.exit_code, known.text, trace, peer_gone=known.peer_gone, again=known.again)
        _say(trace or known.text)


def guarded(work: Callable[[Outcome], int]) -> int:
    """Run the work; a failure is written down, said once, and ends the process at once, with its exit code."""
    outcome = Outcome()
    try:
        code = work(outcome)
    except (Exception, SystemExit) as fault:
        if outcome.told is None:
            outcome.write_fault(fault)
    else:
        outcome.write(code)
        return code
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if outcome.path is None and os.environ.get("RANK", "0") != "0":
        time.sleep(1.0)  # every rank meets a bad config; torchrun would end rank 0 with the first of them, before it has said why
    # No teardown: the peers may be waiting for this rank in a collective, and the launcher stops them.
    assert outcome.told is not None
    os._exit(outcome.told[0])


def _say(text: str) -> None:
    """Tell the terminal, unless a launcher does from the outcome's file; ranks with the same fault do not say it again."""
    told_by_launcher = os.environ.get("OSTINATO_LAUNCHED") == "1" and "OSTINATO_STORE" in os.environ
    if not told_by_launcher and os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)
