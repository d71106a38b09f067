"""What is really tried: two workers that talk, and a few steps of training on one worker and on two, started as `train` starts them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from launcher import forkserver
from launcher.doctor.finding import FAILED, OK, Facts, Finding
from launcher.failure import judge
from launcher.plan import INTERFACES, Seat
from launcher.requests import Requests
from trainer.errors import DONE, OstinatoError
from trainer.rundir import RunDir, read_jsonl

STEPS = 6
CONFIG = {
    "model": {"target": "cnn", "in_channels": 1, "num_classes": 10, "width": 4},
    "data": {"train": {"target": "digits"}, "batch_size": 32},
    "optimizer": {"target": "sgd", "lr": 0.1, "momentum": 0.9},
    # On the CPU, as one worker might get a GPU that two cannot share, and other devices mean other bits.
    "hardware": {"threads": 1, "device": "cpu"},
    "train": {"epochs": 1, "max_steps": STEPS, "virtual_ranks": 2},
    "supervision": {"max_restarts": 0},
    "log": {"tensorboard": False},
}


def _begin() -> None:
    """Load torch once, for all workers of this process."""
    loopback = {name: os.environ.get(name, "lo") for name in INTERFACES}
    os.environ.update({"OSTINATO_LAUNCHED": "1", "OMP_NUM_THREADS": "1", **loopback})
    forkserver.start(["trainer.diagnosis", "trainer.worker"])


def let_two_workers_talk(options: Facts) -> dict[str, Any]:
    """Two processes add their numbers."""
    _begin()
    with Requests() as requests:
        from launcher.agent import run_node
        from trainer.diagnosis import all_reduce

        result = Path(options["room"]) / "sum.json"
        began = time.monotonic()
        ended = run_node(all_reduce, str(result), workers=2, env={}, requests=requests)
    if result.exists():
        return {"sums": json.loads(result.read_text()), "seconds": time.monotonic() - began, "why": None}
    said = judge(ended.ends).lines
    return {"sums": None, "seconds": None, "why": _clean(said[0]) if said else "they said nothing"}


def _clean(line: str) -> str:
    """A line of gloo's without the place in its source."""
    return re.sub(r"\[enforce fail at \S+\] (?:[^.]* [!=<>]=? [^.]*\. )?", "", line.strip())


def judge_two_workers(facts: Facts) -> Finding:
    """Whether their sum arrived at all, and is right."""
    check = "two workers"
    if facts["why"] is not None:
        named = ", ".join(name for name in INTERFACES if name in os.environ)
        advice = f"unset {named}, or set it to lo" if named else "look at the lines for loopback, shared memory, temporary files and memory"
        return Finding(check, FAILED, f"they did not come to a sum: {facts['why']}", advice)
    if facts["sums"] != [3.0, 3.0]:
        return Finding(check, FAILED, f"1 + 2 came out between {facts['sums'][0]:g} and {facts['sums'][1]:g}", "install torch anew")
    return Finding(check, OK, f"started, met and added over gloo, {facts['seconds']:.1f} s in all")


def train_on_one_and_on_two(options: Facts) -> dict[str, Any]:
    """The same steps twice: the SHA-256 of the weights of each."""
    from launcher.local import run
    from launcher.plan import make_job
    from trainer.config.load import load

    room = Path(options["room"])
    path = room / "digits.yaml"
    path.write_text(json.dumps(CONFIG))
    weights = []
    began = time.monotonic()
    for workers in (1, 2):
        overrides = [f"run.root={room}", f"run.name=w{workers}"]
        config = load(str(path), overrides).config
        job = make_job(config, str(path), overrides, workers=workers, cpus=1, environ=os.environ, fresh=False, seat=Seat())
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                code = run(job)
            except OstinatoError as fault:
                code = fault.exit_code
                print(fault, file=sys.stderr)
        if code != DONE:
            lines = [line.strip() for line in said.getvalue().splitlines() if line.strip()]
            return {"weights": [], "workers": workers, "why": _clean(lines[0]) if lines else f"exit code {code}"}
        finished = [row for row in read_jsonl(RunDir(job.run_dir).events) if row.get("event") == "finished"]
        weights.append(str(finished[-1]["weights"]))
    return {"weights": weights, "steps": STEPS, "seconds": time.monotonic() - began, "why": None}


def judge_exactness(facts: Facts) -> Finding:
    """Whether one worker and two gave the same bits."""
    if facts["why"] is not None:
        count = "one worker" if facts["workers"] == 1 else "two workers"
        return Finding("exactness", FAILED, f"training with {count} failed: {facts['why']}", "see the lines above")
    one, two = facts["weights"]
    if one != two:
        advice = "another build of torch; do not trust runs on changing numbers of workers here"
        return Finding("exactness", FAILED, f"one worker gave weights {one[:12]}, two gave {two[:12]}", advice)
    return Finding("exactness", OK, f"{facts['steps']} steps on the CPU gave the same bits on one worker and on two ({one[:12]})")
