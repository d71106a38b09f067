"""CSV files with a header line: read whole, and every mistake in them named by line and column."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.config.explain import did_you_mean
from trainer.config.strict_yaml import one_line
from trainer.errors import TrainingError

csv.field_size_limit(1 << 30)  # a whole book may be one cell; python's own limit is 128 KiB


@dataclass(frozen=True)
class Table:
    """The cells of a file, as text."""

    path: str
    header: list[str]
    rows: list[list[str]] | list[str]
    """The cells of each row; or its line, where it has no quotes: it is taken apart when it is needed."""
    lines: list[int]
    """The line in which each row ends."""
    delimiter: str = ","

    def column(self, name: str) -> list[str]:
        """The cells below one name.

        Raises:
            TrainingError: there is no such column.
        """
        position = self.position(name)
        return [(row.split(self.delimiter, position + 1) if isinstance(row, str) else row)[position] for row in self.rows]

    def position(self, name: str) -> int:
        """Where a column stands."""
        if name not in self.header:
            instead = did_you_mean(name, self.header) or f"; it has {_some(self.header)}"
            raise TrainingError(f"{self.path}:1: there is no column '{one_line(name, 40)}'{instead}")
        return self.header.index(name)

    def numbers(self, names: list[str]) -> NDArray[np.float32]:
        """Some columns as numbers, shape (rows, names).

        Raises:
            TrainingError: a cell is no finite number; it is named.
        """
        at_once = self._at_once([self.position(name) for name in names])
        if at_once is not None:
            return at_once
        result = np.empty((len(self.rows), len(names)), dtype=np.float32)
        for place, name in enumerate(names):
            cells = self.column(name)
            try:
                with np.errstate(over="ignore"):
                    result[:, place] = np.array(cells, dtype=np.float64)
                good = bool(np.isfinite(result[:, place]).all())
            except ValueError:
                good = False
            if not good:
                raise self._no_number(name, cells)
        return result

    def _at_once(self, positions: list[int]) -> NDArray[np.float32] | None:
        """Columns as numbers, read by NumPy; None: not all cells are plain finite numbers, and it does not say which."""
        if not positions or not isinstance(self.rows[0], str):
            return None
        try:
            found = np.loadtxt(self.rows, delimiter=self.delimiter, comments=None, usecols=positions, ndmin=2)
        except ValueError:
            return None
        with np.errstate(over="ignore"):
            numbers = found.astype(np.float32)
        return numbers if len(numbers) == len(self.rows) and np.isfinite(numbers).all() else None

    def _no_number(self, name: str, cells: list[str]) -> TrainingError:
        for line, cell in zip(self.lines, cells, strict=True):
            if fault := _fault(cell):
                return TrainingError(f"{self.path}:{line}: column '{one_line(name, 40)}': {fault}")
        return TrainingError(f"{self.path}: column '{one_line(name, 40)}': not all cells are numbers")


def read_table(path: str, delimiter: str = ",") -> Table:
    """Read a CSV file in UTF-8 whose first line names the columns.

    Args:
        path: the file.
        delimiter: what stands between two cells; ``tab`` for a tabulator.

    Raises:
        TrainingError: it cannot be read, has no header or no rows, or a row has another number of cells.
    """
    delimiter = _one_character(path, delimiter)
    plain = _plain(path, delimiter)
    if plain is not None:
        return plain
    line = 0
    header: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            for line, cells in _cells(file, delimiter):
                if not header:
                    header = _header(path, line, cells)
                    continue
                if len(cells) != len(header):
                    raise TrainingError(f"{path}:{line}: {len(cells)} cells, and the header has {len(header)} names; {_REPAIR}")
                rows.append(cells)
                lines.append(line)
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read: {error.strerror}; name a CSV file") from error
    except UnicodeDecodeError as error:
        raise TrainingError(f"{path}:{line + 1}: not UTF-8 text, here or soon after; save the file as UTF-8") from error
    except csv.Error as error:
        raise TrainingError(f"{path}:{line + 1}: no CSV, here or soon after: {error}") from error
    if not rows:
        raise TrainingError(
            f"{path}: {'no rows below the header' if header else 'empty'}; a table has a line of names and a row for each sample"
        )
    return Table(path, header, rows, lines)


_REPAIR = "mend the row, or quote a cell that holds the delimiter"


def _plain(path: str, delimiter: str) -> Table | None:
    """A table of lines as they are; None: it has quotes, or anything that must be looked at cell by cell."""
    try:
        text = Path(path).read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError):
        return None
    if any(sign in text for sign in '"\r\0') or delimiter in '"\r\n':
        return None
    numbered = [(number, row) for number, row in enumerate(text.split("\n"), 1) if row]
    if len(numbered) < 2 or len({row.count(delimiter) for _, row in numbered}) > 1:
        return None
    header = _header(path, numbered[0][0], numbered[0][1].split(delimiter))
    return Table(path, header, [row for _, row in numbered[1:]], [number for number, _ in numbered[1:]], delimiter)


def _one_character(path: str, delimiter: str) -> str:
    delimiter = "\t" if delimiter == "tab" else delimiter
    if len(delimiter) != 1:
        raise TrainingError(f"{path}: the delimiter must be one character or 'tab', not {one_line(repr(delimiter), 20)}")
    return delimiter


def _cells(file: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, delimiter=delimiter, strict=True)
    for cells in reader:
        if cells:  # not an empty line
            yield reader.line_num, cells


def _header(path: str, line: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if all(_fault(name) is None for name in names):
        raise TrainingError(f"{path}:{line}: the first line holds numbers only; it must name the columns")
    for name in names:
        if not name or names.count(name) > 1:
            what = f"two columns are called '{one_line(name, 40)}'" if name else "a column has no name"
            raise TrainingError(f"{path}:{line}: {what}; give each its own")
    return names


def _fault(cell: str) -> str | None:
    """Why a cell is no number; None if it is one."""
    if not cell.strip():
        return "the cell is empty, where a number is expected"
    try:
        with np.errstate(over="ignore"):
            number = np.float32(float(cell))
    except ValueError:
        return f"'{one_line(cell, 40)}' is no number"
    return None if np.isfinite(number) else f"'{one_line(cell, 40)}' is no finite number of 32 bits"


def _some(names: list[str]) -> str:
    return ", ".join(one_line(name, 40) for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
