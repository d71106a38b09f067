"""What ``faulthandler`` writes when it is asked where a process is: text -> frames (pure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

_FRAME = re.compile(r'  File "(.*)", line (\d+) in (.*)')
_THREAD = re.compile(r"(Current thread|Thread) 0x")

# Where a worker that only waits for its peers is: in torch's collectives, in the sum of gradients, or in our own use of them.
_COLLECTIVES = ("torch/distributed/", "trainer/agreement.py", "trainer/distributed.py", "trainer/reduce.py")
_LIBRARIES = re.compile(r"-packages/(torch|torchvision|numpy|PIL)/|/lib/python3\.\d+/(?!site-packages|dist-packages)|^<")


@dataclass(frozen=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


def main_thread(text: str) -> list[Frame]:
    """The main thread's frames, innermost first: faulthandler writes the oldest thread last. Empty: there is no dump."""
    found: list[Frame] = []
    for line in text.splitlines():
        if _THREAD.match(line):
            found = []
        elif match := _FRAME.fullmatch(line):
            found.append(Frame(match[1], int(match[2]), match[3]))
    return found


def waits_for_peers(frames: Sequence[Frame]) -> bool:
    """Whether the innermost frames are a collective's, or autograd's engine, which waits for the sum of gradients."""
    if not frames:
        return False
    if frames[0].function == "_engine_run_backward":
        return True
    return any(part in PurePath(frame.file).as_posix() for frame in frames[:2] for part in _COLLECTIVES)


def telling(frames: Sequence[Frame]) -> Frame | None:
    """The line that says most: the innermost one of the user's code, else of ours, else of all."""
    outside = [frame for frame in frames if not _LIBRARIES.search(frame.file)]
    users = [frame for frame in outside if not _is_ours(frame)]
    return next(iter([*users[:1], *outside[:1], *frames[:1]]), None)


def _is_ours(frame: Frame) -> bool:
    parts = PurePath(frame.file).parts
    return "trainer" in parts[-4:-1] or "launcher" in parts[-3:-1]
