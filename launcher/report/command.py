"""``ostinato report``: read the runs, make the page, write it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from launcher.report.apart import labels
from launcher.report.page import GENERATOR, page
from launcher.report.read import RunData, read
from launcher.report.swept import Swept, is_sweep, read_sweep
from trainer.errors import DONE, ConfigError, RunFolderError
from trainer.files import write_atomic
from trainer.rundir import RunDir

NAME = "report.html"


def report(runs: Sequence[str], *, output: str | None = None, png: str | None = None, show: bool = False, quiet: bool = False) -> int:
    """Write the report of one run, of several, or of a sweep.

    Args:
        runs: run folders, or a sweep's folder.
        output: the file; None: ``report.html`` in the run's or the sweep's folder, of several runs in the working folder.
        png: a folder for the curves as PNG pictures besides.
        show: open the page in a browser.
        quiet: do not say where it is.

    Returns:
        0.

    Raises:
        RunFolderError: one is no run, or the file cannot be written.
        ConfigError: pictures are asked for, and what draws them is not installed.
    """
    if png is not None:
        from launcher.report.pictures import need_matplotlib

        need_matplotlib()
    swept = _sweep_of(runs)
    folders = list(swept.best) if swept is not None else [RunDir(run) for run in _each_once(runs)]
    found = [read(run, label) for run, label in zip(folders, labels([run.path for run in folders]), strict=True)]
    alone = Path(runs[0]) if swept is not None else folders[0].path if len(folders) == 1 else Path()
    path = Path(output) if output is not None else alone / NAME
    write(path, page(found, swept))
    if not quiet:
        print(f"report: {path}")
    if png is not None:
        _pictures(found, Path(png))
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return DONE


def _sweep_of(runs: Sequence[str]) -> Swept | None:
    """The sweep that is asked for; None: runs are.

    Raises:
        RunFolderError: both are, or several sweeps.
    """
    sweeps = [run for run in runs if is_sweep(run)]
    if sweeps and len(runs) > 1:
        raise RunFolderError(f"{sweeps[0]}: a sweep's folder, which has a report of its own; name it alone")
    return read_sweep(sweeps[0]) if sweeps else None


def _each_once(runs: Sequence[str]) -> list[str]:
    """The runs without those that were named before."""
    first: dict[str, str] = {}
    for run in runs:
        first.setdefault(os.path.realpath(run), run)
    return list(first.values())


def write(path: Path, text: str) -> None:
    """Write the page, whole or not at all.

    Raises:
        RunFolderError: it cannot be written there.
    """
    if path.is_dir():
        raise RunFolderError(f"{path}: a folder; name a file for the report (--output)")
    if path.exists() and not _is_ours(path):
        raise RunFolderError(f"{path}: is there already, is no report, and is left alone; name another file (--output)")
    try:
        write_atomic(path, text.encode("utf-8", "replace"), durable=False)
    except OSError as fault:
        raise RunFolderError(f"{path}: cannot be written ({fault.strerror}); name another file (--output)") from fault


def _is_ours(path: Path) -> bool:
    """Whether a file is a report, or empty."""
    try:
        with open(path, "rb") as file:
            begun = file.read(4096)
    except OSError:
        return False
    return not begun or GENERATOR.encode() in begun


def _pictures(found: Sequence[RunData], folder: Path) -> None:
    from launcher.report.pictures import draw

    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = draw(found, folder)
    except OSError as fault:
        raise RunFolderError(f"{folder}: cannot be written ({fault.strerror}); name another folder (--png)") from fault
    if not names:
        raise ConfigError("command line: --png: there is nothing to draw: nothing has been measured yet")
    print(f"pictures: {folder} ({', '.join(names)})")
