"""Loader workers of these tests come from the server that `tests.support.ranks` uses too: one import of torch for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import forkserver

import pytest
import torch

import tests.support.ranks  # noqa: F401 - chooses what the server preloads


@pytest.fixture(autouse=True)
def server_and_threads() -> Iterator[None]:
    forkserver.ensure_running()
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
