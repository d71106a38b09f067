"""Runs that several files use; trained once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.using.runs import DIGITS, trained
from trainer.rundir import RunDir


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Digits for two epochs, with averaged weights, on a test set of prime size."""
    return trained(tmp_path_factory.mktemp("digits"), "digits", DIGITS)


@pytest.fixture
def here(digits: RunDir) -> Path:
    """The folder in which the digits were trained."""
    return digits.path.parents[1]
