"""Commands that only look, and end when nobody looks any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def looking() -> Iterator[None]:
    """Within it, Ctrl-C and a reader that has seen enough (``| head``) end the looking, and nothing else."""
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
