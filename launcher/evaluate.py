"""``ostinato evaluate``: a run's weights over one of its data sets, on any number of workers; the numbers do not depend on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import forkserver
from launcher.failure import NOT_BEGUN, Verdict, judge
from launcher.plan import INTERFACES, asked_workers, thread_limit
from launcher.requests import Requests
from launcher.stopping import as_it_was_started
from trainer.config.checks import splits
from trainer.config.load import load
from trainer.config.schema import Config
from trainer.errors import DONE, STOPPED, ConfigError, RunFolderError
from trainer.files import json_text, write_atomic
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from launcher.agent import NodeResult

ENTRY = "trainer.evaluate_run"
SHOWN = 20  # rows of classes on a terminal


def evaluate(
    run: str,
    *,
    split: str | None = None,
    checkpoint: str = "best",
    nproc_per_node: str = "auto",
    as_json: bool = False,
    output: str | None = None,
) -> int:
    """Evaluate, print the table, and keep it as text, JSON and a picture.

    Args:
        run: the run folder; nothing of its training is touched.
        split: test, valid or train; None: the first of them that the run has.
        checkpoint: best, last, or a checkpoint's name.
        nproc_per_node: workers here, or auto: one for each GPU, without GPUs one.
        as_json: print JSON instead of a table.
        output: the folder for the files; None: the run's own ``evaluations/``.

    Returns:
        The exit code.

    Raises:
        OstinatoError: what a person can mend.
    """
    asked = asked_workers(nproc_per_node)
    folder = RunDir(Path(run).absolute())
    config, meant = config_of(folder, run), folder.identity()
    split = _split(config, split)
    target = Path(output).absolute() if output is not None else None
    go_where_it_was_started(folder)
    found, verdict = _measure(folder, config, split, checkpoint, asked)
    if found is None:
        print("\n".join(verdict.lines), file=sys.stderr)
        return verdict.exit_code
    for complaint in found.pop("complaints"):
        print(f"ostinato: {complaint}; {found['checkpoint']} is evaluated instead", file=sys.stderr)
    text = "\n".join(table(found))
    name = f"{split}-{found['checkpoint']}"
    if target is None and folder.identity() != meant:
        written, fault = False, f"nothing is kept: {run} was begun anew or moved meanwhile; --output FOLDER keeps it elsewhere"
    else:
        written, fault = _keep(found, text, target or folder.evaluations / name, asked=target is not None)
    place = str(output or Path(run, folder.evaluations.name, name)) if written else None  # as it was typed
    if as_json:
        print(json_text({**found, "files": place}, indent=2))
    else:
        _show(found, text)
        print(f"in {place}: evaluation.json, table.txt" + (", confusion.png" if found.get("confusion") else "") if place else fault)
    return DONE


def config_of(folder: RunDir, said: str) -> Config:
    """A run's config.

    Raises:
        RunFolderError: it is no run.
    """
    folder.must_exist(said)
    return load(folder.config).config


def go_where_it_was_started(folder: RunDir) -> None:
    """Make the folder from which the run's paths are meant the current one; modules are found there and where the command is given."""
    here = Path.cwd()
    sys.path.insert(0, str(here))
    _, where = as_it_was_started(folder)
    if where != here:
        os.chdir(where)
        sys.path.insert(0, str(where))


def _split(config: Config, wanted: str | None) -> str:
    there = splits(config)
    if wanted is None:
        return there[0]
    if wanted not in ("test", "valid", "train"):
        raise ConfigError(f"command line: --split={wanted}: must be test, valid or train")
    if wanted not in there:
        raise ConfigError(f"command line: --split={wanted}: the run has no such data set; it has {', '.join(there)}")
    return wanted


def _measure(folder: RunDir, config: Config, split: str, checkpoint: str, asked: int | None) -> tuple[dict[str, Any] | None, Verdict]:
    """Let the workers evaluate: what they found, or how they failed."""
    os.environ.update({"OSTINATO_LAUNCHED": "1", **{name: os.environ.get(name, "lo") for name in INTERFACES}})
    cpus = len(os.sched_getaffinity(0))
    os.environ.update(thread_limit(config, asked or 1, cpus))
    room = Path(tempfile.mkdtemp(prefix="ostinato-evaluate-"))
    try:
        with Requests() as requests:
            forkserver.start([ENTRY])
            from launcher.agent import count_devices, run_node
            from trainer.evaluate_run import request, run

            workers, device, said = device_for(config.hardware.device, asked, count_devices() if config.hardware.device != "cpu" else 0)
            if said:
                print(f"ostinato: {said}", file=sys.stderr)
            result = room / "result.json"
            told = request(str(folder.path), split, checkpoint, result)
            ended = run_node(run, told, workers=workers, env={"OSTINATO_DEVICE": device}, requests=requests)
            if requests.stop:
                return None, Verdict(STOPPED, ("stopped before the evaluation was through; nothing was written",))
            if not result.exists():
                return None, _verdict(ended)
            found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
            return found, Verdict(DONE)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def device_for(wanted: str, asked: int | None, gpus: int) -> tuple[int, str, str]:
    """How many workers, on which device, and what is to be said about it. Pure.

    Args:
        wanted: the run's ``hardware.device``.
        asked: for so many workers; None: one for each GPU, without GPUs one.
        gpus: so many are here.

    Raises:
        ConfigError: the run is one for GPUs, and here are fewer than workers.
    """
    workers = asked or max(1, gpus)
    if wanted == "cpu" or gpus >= workers:
        return workers, "cpu" if wanted == "cpu" else "cuda", ""
    here = f"{gpus} GPU{'' if gpus == 1 else 's'} here"
    if gpus and wanted == "cuda":
        raise ConfigError(f"command line: --nproc-per-node={workers}: {here}, and hardware.device is cuda; start at most {gpus}")
    on_cpu = "evaluated on the CPU, whose last digits may be others than a GPU's"
    if gpus:
        return workers, "cpu", f"{here} for {workers} workers: {on_cpu}; --nproc-per-node {gpus} is on the GPU{'' if gpus == 1 else 's'}"
    return workers, "cpu", f"no GPU here, and hardware.device is cuda: {on_cpu}" if wanted == "cuda" else ""


def _verdict(ended: NodeResult) -> Verdict:
    """How it failed; alone, a worker needs no number."""
    found = judge(ended.ends)
    lines = found.lines or (NOT_BEGUN,)
    if len(ended.ends) == 1:
        lines = (re.sub(r"^rank 0: ", "ostinato: ", lines[0]), *lines[1:])
    return Verdict(found.exit_code, lines)


def table(found: Mapping[str, Any]) -> list[str]:
    """The lines for people: what was evaluated, the metrics, and a row for each class."""
    lines = [heading(found), ""]
    width = max(len(name) for name in found["metrics"])
    lines += [f"{name.ljust(width)}  {value:.6g}" for name, value in found["metrics"].items()]
    rows = class_rows(found)
    if rows:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += ["", *(_line(row, widths) for row in rows)]
    return lines


def heading(found: Mapping[str, Any]) -> str:
    """What was evaluated, in a line."""
    averaged = ", averaged weights" if found["averaged"] else ""
    where = f"{found['checkpoint']}, step {found['step']}, epoch {found['epoch']}{averaged}, on {found['device']}"
    unread = f" and {found['left_out']:,} that cannot be read" if found["left_out"] else ""
    return f"{found['run']}: {found['split']} set, {found['samples']:,} samples{unread} ({where})"


def class_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A heading and a row for each class; empty where nothing was measured of single classes."""
    # A class may be called after a folder whose name is no text.
    names = [str(name).encode("utf-8", "backslashreplace").decode() for name in found.get("classes") or []]
    head: tuple[str, ...]
    figures: list[tuple[str, ...]]
    if found.get("per_class"):
        each = found["per_class"]
        head = ("class", "samples", "predicted", "precision", "recall", "f1")
        figures = [
            (f"{row['samples']:,}", f"{row['predicted']:,}", *(f"{row[name]:.4f}" for name in ("precision", "recall", "f1")))
            for row in each
        ]
    elif found.get("hits"):  # several classes a sample
        head = ("class", "hits", "false alarms", "misses", "f1")
        counts = list(zip(found["hits"], found["false_alarms"], found["misses"], strict=True))
        figures = [(f"{h:,}", f"{f:,}", f"{m:,}", f"{2 * h / max(1, 2 * h + f + m):.4f}") for h, f, m in counts]
    else:
        return []
    return [head, *((names[number] if number < len(names) else str(number), *row) for number, row in enumerate(figures))]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])


def _show(found: Mapping[str, Any], text: str) -> None:
    """Print the table: ruled on a terminal, plain anywhere else."""
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(heading(found), style="bold", markup=False)
    for name, value in found["metrics"].items():
        console.print(f"  {name}  {value:.6g}", markup=False)
    rows = class_rows(found)
    if not rows:
        return
    drawn = Table(*rows[0][:1])
    for name in rows[0][1:]:
        drawn.add_column(name, justify="right")
    shown = rows[1:] if len(rows) - 1 <= SHOWN else sorted(rows[1:], key=lambda row: float(row[-1]))[:SHOWN]
    from rich.text import Text

    for row in shown:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)
    if len(shown) < len(rows) - 1:
        console.print(f"the {SHOWN} of {len(rows) - 1} classes with the lowest F1; table.txt has all", markup=False)


def _keep(found: Mapping[str, Any], text: str, place: Path, *, asked: bool) -> tuple[bool, str]:
    """Write the files; whether they are written, or why not.

    Raises:
        RunFolderError: the folder was asked for, and cannot be written.
    """
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(place / "evaluation.json", (json_text(found, indent=2) + "\n").encode(), durable=False)
        write_atomic(place / "table.txt", f"{text}\n".encode("utf-8", "backslashreplace"), durable=False)
        if found.get("confusion"):
            from trainer.metrics.confusion import as_png

            write_atomic(place / "confusion.png", as_png(found["confusion"], found.get("classes") or []), durable=False)
    except OSError as fault:
        if asked:
            raise RunFolderError(f"{place}: cannot be written ({fault.strerror}); name another folder (--output)") from fault
        return False, f"nothing is kept: {place} cannot be written ({fault.strerror}); --output FOLDER keeps it elsewhere"
    return True, ""
