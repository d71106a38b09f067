"""``ostinato predict``: what a run's model says to new pictures, texts or numbers. What cannot be read is one line."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.evaluate import config_of, go_where_it_was_started
from trainer.errors import DONE, TRAINING_FAILED, ConfigError, RunFolderError
from trainer.files import json_text, write_atomic
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from trainer.predict import Prediction, Predictor
    from trainer.read_inputs import Given

FORMULA = ("=", "+", "-", "@", "\t", "\r")
Row = dict[str, Any]
"""``{"input", "predictions": [{"label", "probability"}, …]}``, or ``{"input", "values"}``, or ``{"input", "error"}``."""


def predict(
    run: str,
    paths: Sequence[str],
    *,
    top_k: int = 5,
    batch_size: int = 32,
    checkpoint: str = "best",
    as_json: bool = False,
    csv_file: str | None = None,
) -> int:
    """Predict, and print a line for each input.

    Args:
        run: the run folder; it is only read.
        paths: files and folders.
        top_k: how many of the likeliest classes to tell.
        batch_size: inputs in one forward pass.
        checkpoint: best, last, or a checkpoint's name.
        as_json: print a JSON list instead of lines.
        csv_file: also write a table there.

    Returns:
        0; or 4 if some input could not be used.

    Raises:
        OstinatoError: the run cannot be used, or the table not be written.
    """
    folder = RunDir(Path(run).absolute())
    config_of(folder, run)
    target = Path(csv_file).absolute() if csv_file is not None else None
    if target is not None and not target.parent.is_dir():
        raise ConfigError(f"command line: --csv={csv_file}: there is no folder {target.parent}; make it first")
    if target is not None and (own := _input_with(target, paths)) is not None:
        raise ConfigError(f"command line: --csv={csv_file}: is one of the inputs, or lies among them ({own}); name another file")
    named = [str(Path(path).absolute()) for path in paths]
    go_where_it_was_started(folder)
    from trainer.predict import Predictor

    predictor = Predictor(folder.path, checkpoint)
    for complaint in predictor.finished.complaints:
        print(f"ostinato: {complaint}; {predictor.checkpoint} answers instead", file=sys.stderr)
    rows = []
    for row in _answers(predictor, list(zip(named, paths, strict=True)), top_k, batch_size):
        rows.append(row)
        if "error" in row:
            print(f"{_shown(row['input'])}: {row['error']}", file=sys.stderr)
        elif not as_json:
            print(line(row), flush=True)
    if as_json:
        print(json_text(rows, indent=2))
    if target is not None:
        _write(target, as_csv(rows))
    return TRAINING_FAILED if any("error" in row for row in rows) else DONE


def _answers(predictor: Predictor, paths: Sequence[tuple[str, str]], top_k: int, batch_size: int) -> Iterator[Row]:
    """A row for each input, in order; of each path, its absolute form and how it was typed, as the input is called."""
    from trainer.read_inputs import inputs_in

    given = ((_as_typed(one.name, path, typed), one) for path, typed in paths for one in inputs_in([path], predictor.inputs))
    while batch := list(islice(given, batch_size)):
        yield from _batch(predictor, batch, top_k)


def _batch(predictor: Predictor, batch: Sequence[tuple[str, Given]], top_k: int) -> Iterator[Row]:
    from trainer.predict import InputError

    rows: list[Row] = []
    prepared: list[Any] = []
    for typed, one in batch:
        rows.append({"input": typed})
        try:
            if one.fault is not None:
                raise InputError(one.fault)
            prepared.append((rows[-1], predictor.prepare(one.value)))
        except InputError as fault:
            rows[-1]["error"] = str(fault).removeprefix(f"{one.name}: ")
    # Inputs of one shape go through the model together; texts of a language model and pictures without a fixed size differ.
    for shape in dict.fromkeys(tuple(value.shape) for _, value in prepared):
        _answer(predictor, [(row, value) for row, value in prepared if tuple(value.shape) == shape], top_k)
    yield from rows


def _answer(predictor: Predictor, alike: Sequence[tuple[Row, Any]], top_k: int) -> None:
    """Answer inputs of one shape; where they cannot be answered together, each by itself, as it may be the fault of one."""
    from trainer.predict import InputError

    try:
        answers = predictor.answer([value for _, value in alike], top_k)
    except InputError as fault:
        if len(alike) == 1:
            alike[0][0]["error"] = str(fault)
            return
        for one in alike:
            _answer(predictor, [one], top_k)
    else:
        for (row, _), answer in zip(alike, answers, strict=True):
            row.update(as_row(answer))


def as_row(answer: Prediction) -> Row:
    """One answer as plain types."""
    if answer.values:
        return {"values": list(answer.values)}
    return {"predictions": [{"label": label, "probability": probability} for label, probability in answer.pairs]}


def line(row: Row) -> str:
    """One answer for people: ``photo.jpg  cat 97.31 %  dog 2.10 %``."""
    if "values" in row:
        told = [f"{value:.6g}" for value in row["values"]]
    else:
        told = [f"{_shown(pair['label'])} {100 * pair['probability']:.2f} %" for pair in row["predictions"]]
    return "  ".join([_shown(row["input"]), *told])


def _shown(label: str) -> str:
    """A label or a name as it is; one that would not be seen, or do something to the terminal, in quotes."""
    return label if label.isprintable() and label.strip() else repr(label)


def as_csv(rows: Sequence[Row]) -> str:
    """All answers as a table: a line for each input. A path that a spreadsheet would take for a formula is written as ``./…``."""
    most = max((len(row.get("predictions", ())) for row in rows), default=0)
    values = max((len(row.get("values", ())) for row in rows), default=0)
    columns = ["input", *(f"{name}_{rank}" for rank in range(1, most + 1) for name in ("label", "probability"))]
    columns += [f"value_{number}" for number in range(1, values + 1)] + (["error"] if any("error" in row for row in rows) else [])
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells: dict[str, Any] = {"input": ("./" if row["input"].startswith(FORMULA) else "") + row["input"]}
        for rank, pair in enumerate(row.get("predictions", ()), start=1):
            cells |= {f"label_{rank}": pair["label"], f"probability_{rank}": pair["probability"]}
        cells |= {f"value_{number}": value for number, value in enumerate(row.get("values", ()), start=1)}
        cells |= {"error": row["error"]} if "error" in row else {}
        writer.writerow(cells)
    return text.getvalue()


def _input_with(target: Path, paths: Sequence[str]) -> str | None:
    """The input that a file is or lies in, if it is there already."""
    if not target.exists():
        return None
    real = target.resolve()
    return next((path for path in paths if Path(path).resolve() in (real, *real.parents)), None)


def _as_typed(name: str, path: str, typed: str) -> str:
    """The name of an input of a path, with the path as it was typed."""
    rest = name.removeprefix(path)
    return (typed.rstrip("/") if rest.startswith("/") else typed) + rest


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text.encode("utf-8", "backslashreplace"), durable=False)
    except OSError as fault:
        raise RunFolderError(f"{path}: cannot be written ({fault.strerror}); name another file (--csv)") from fault
