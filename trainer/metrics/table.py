"""``metrics.csv``: the rows of ``metrics.jsonl`` for spreadsheets, made anew at each end of a run. JSONL is the truth."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from trainer.metrics.options import POSITION
from trainer.rundir import RunDir, read_jsonl, write_atomic


def write_table(run: RunDir) -> None:
    """Write the whole table, of all attempts.

    Raises:
        OSError: it cannot be written.
    """
    write_atomic(run.metrics_table, as_csv(list(read_jsonl(run.metrics))).encode(), durable=False)


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as CSV: the position first, then each figure in the order in which it first comes up; what a row lacks is empty."""
    rows = list(rows)
    columns = list(dict.fromkeys((*POSITION, *(name for row in rows for name in row))))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
