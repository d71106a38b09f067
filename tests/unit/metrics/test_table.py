"""The table for spreadsheets, the flat options, and the line for people."""

from __future__ import annotations

import csv
import io
from typing import Any

from trainer.config.schema import Config
from trainer.metrics.options import curves, final_metrics, scalar_options
from trainer.metrics.progress import epoch_line, figures
from trainer.metrics.table import as_csv


def row(split: str, step: int, **values: Any) -> dict[str, Any]:
    return {"time": 1.5, "attempt": 0, "step": step, "epoch": 1, "split": split, **values}


ROWS = [
    row("train", 1, loss=0.1 + 0.2, lr=1e-07),
    row("weights", 1, fingerprint="00ff"),
    row("valid", 2, loss=None, accuracy=0.5),
    row("valid", 4, loss=0.25, accuracy=0.75),
    row("test", 4, loss=0.5, accuracy=0.625),
]


def test_the_table_has_every_row_and_every_figure_to_the_last_digit() -> None:
    found = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert len(found) == len(ROWS)
    for read, written in zip(found, ROWS, strict=True):
        assert list(read)[:5] == ["time", "attempt", "step", "epoch", "split"]
        assert {name: text for name, text in read.items() if text} == {n: str(v) for n, v in written.items() if v is not None}
    assert float(found[0]["loss"]) == 0.1 + 0.2


def test_a_run_without_rows_has_a_table_of_headings() -> None:
    assert as_csv([]) == "time,attempt,step,epoch,split\n"


def test_names_with_commas_and_quotes_stay_one_column() -> None:
    text = as_csv([row("train", 1, **{'lr/"head",tail': 0.5})])
    assert next(csv.DictReader(io.StringIO(text)))['lr/"head",tail'] == "0.5"


def test_curves_are_a_rows_numbers_by_name_and_split() -> None:
    assert curves(row("train", 3, loss=1.0, **{"lr/head": 0.5})) == {"loss/train": 1.0, "lr/head/train": 0.5}
    assert curves(ROWS[1]) == {}


def test_final_metrics_are_the_last_of_each_evaluation() -> None:
    assert final_metrics(ROWS) == {"accuracy/valid": 0.75, "loss/valid": 0.25, "loss/test": 0.5, "accuracy/test": 0.625}


def test_options_are_flat_and_without_secrets() -> None:
    config = Config.model_validate(
        {
            "model": {"target": "cnn", "sizes": [8, 16]},
            "data": {"train": {"target": "a:B", "api_key": "hunter2", "url": "https://me:hunter2@host/x"}, "batch_size": 4},
            "optimizer": {"target": "sgd", "lr": 0.1, "nesterov": True},
            "train": {"epochs": 1},
            "log": {"wandb": "project"},
        }
    )
    options = scalar_options(config)
    assert options["model.target"] == "cnn"
    assert (options["model.sizes.0"], options["model.sizes.1"]) == (8, 16)
    assert (options["optimizer.lr"], options["optimizer.nesterov"]) == (0.1, True)
    assert "hunter2" not in str(options)
    assert not any(name.startswith(("log.", "run.")) for name in options)
    assert None not in options.values()


def test_an_epochs_line_has_the_loss_and_the_first_metric_and_a_tests_line_all() -> None:
    measured = {"loss": 0.5, "accuracy": 0.75, "top5_accuracy": 0.9, "f1": 0.7}
    line = epoch_line(3, 9, 120, {"loss": 1.0, "accuracy": 0.5}, measured, 1234.4)
    assert line == "epoch 3/9 · step 120 · train loss 1.0000 accuracy 50.00% · valid loss 0.5000 accuracy 75.00% · 1,234 samples/s"
    assert figures(measured) == "loss 0.5000 accuracy 75.00% top5_accuracy 90.00% f1 0.7000"
    assert "valid" not in epoch_line(1, 9, 1, {"loss": 1.0}, {}, 1.0)
