"""``python -m trainer (RUN_DIR | CONFIG [key=value…])``: one worker, alone or under torchrun."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run one worker and leave with its exit code."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print("usage: python -m trainer (RUN_DIR | CONFIG) [section.key=value …]   (also under torchrun)", file=sys.stderr)
        raise SystemExit(2)
    from trainer.stop import REQUEST

    REQUEST.listen()  # a request that comes while torch is loading ends the process as it should
    from trainer import worker  # imports torch

    code = worker.main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the collectives' libraries can abort an ordinary exit


if __name__ == "__main__":
    main()
