"""One engine and one image for all tests with real containers; in CI what is missing is a failure, elsewhere a reason to skip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import Engine, missing


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Podman with the cpu image, built from the Dockerfile."""
    if lacking := missing():
        (pytest.fail if os.environ.get("OSTINATO_CI") == "1" else pytest.skip)(f"no real containers here: {', '.join(lacking)} missing")
    engine = Engine()
    try:
        engine.build()
        yield engine
    finally:
        engine.close()


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder for runs that belongs to the image's user."""
    folder = tmp_path / "runs"
    folder.mkdir()
    os.chown(folder, 1000, 1000)
    return folder
