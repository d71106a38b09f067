"""Writes data/diabetes-train.csv and data/diabetes-test.csv for configs/regression.yaml; nothing is downloaded.

    python -m examples.diabetes

442 patients, ten measurements each, and how far their diabetes had come a year later, as a number from 25 to 346 (Efron, Hastie,
Johnstone and Tibshirani, Least Angle Regression, 2004); the table comes with scikit-learn. Each column of measurements is shifted and
scaled to mean 0 and standard deviation 1 over all patients. Every fifth patient is a test patient.
"""

from __future__ import annotations

import csv
from pathlib import Path

from sklearn.datasets import load_diabetes


def write(folder: Path) -> None:
    """Write the two tables into a folder."""
    table = load_diabetes()
    inputs = table.data * len(table.data) ** 0.5  # its columns have the length 1
    rows = [[*(f"{value:.6f}" for value in row), f"{target:g}"] for row, target in zip(inputs, table.target, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, mine in {"test": rows[::5], "train": [row for number, row in enumerate(rows) if number % 5]}.items():
        with open(folder / f"diabetes-{name}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[*table.feature_names, "progression"], *mine])


if __name__ == "__main__":
    write(Path("data"))
