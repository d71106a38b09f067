"""``ostinato export``: a run's model as files that are used elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from launcher.evaluate import config_of, go_where_it_was_started
from trainer.errors import DONE, ConfigError
from trainer.rundir import RunDir

FORMATS = ("safetensors", "torch", "onnx")


def export(run: str, formats: Sequence[str], *, output: str | None = None, checkpoint: str = "best", as_json: bool = False) -> int:
    """Export a run's model, and say how far its outputs are from the run's.

    Args:
        run: the run folder.
        formats: safetensors, torch, onnx; or all.
        output: where to; None: the run's own ``exports/``.
        checkpoint: best, last, or a checkpoint's name.
        as_json: print JSON instead of lines.

    Returns:
        0.

    Raises:
        OstinatoError: what a person can mend; or (exit code 1) the outputs differ. Nothing is left then.
    """
    wanted = list(dict.fromkeys(FORMATS if "all" in formats else formats)) or ["safetensors"]
    for name in wanted:
        if name not in FORMATS:
            raise ConfigError(f"command line: --format={name}: must be {', '.join(FORMATS)} or all")
    folder = RunDir(Path(run).absolute())
    config_of(folder, run)
    target = Path(output).absolute() if output is not None else None
    go_where_it_was_started(folder)
    from trainer.export import export as make

    place, made, complaints = make(str(folder.path), wanted, target, checkpoint)
    for complaint in complaints:
        print(f"ostinato: {complaint}; another checkpoint is exported instead", file=sys.stderr)
    if as_json:
        print(json.dumps({"folder": str(place), "exported": [asdict(one) for one in made]}, indent=2))
        return DONE
    for one in made:
        print(f"{one.format}: {', '.join(one.files)}; largest difference {one.difference:.3g} on {one.samples}; {one.note}")
    print(f"in {output or Path(run, folder.exports.name, place.name)}")
    return DONE
