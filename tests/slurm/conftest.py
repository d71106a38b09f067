"""Real Slurm clusters for these tests, started once; every test finds them empty and whole."""

import os
import sys
from collections.abc import Iterator

import pytest

from tests.support.slurm_cluster import Cluster
from tests.support.slurm_files import Settings
from tests.support.slurm_machine import SLURM_VARIABLES, in_ci, install, missing

CLUSTERS = ("cluster", "term_only_cluster", "accounting_cluster", "either_cluster", "forgetful_cluster")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """As many clusters are: no accounting, so no sacct that answers. Each node has two GPUs to ask for."""
    yield from _started(Settings(gpus=2))


@pytest.fixture(scope="session")
def term_only_cluster() -> Iterator[Cluster]:
    """One whose preemptions never send the signal that a job asked for."""
    yield from _started(Settings(signal_at_preemption=False))


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """With slurmdbd and its database: sacct knows everything."""
    yield from _started(Settings(accounting=True))


@pytest.fixture(params=["cluster", "accounting_cluster"])
def either_cluster(request: pytest.FixtureRequest) -> Cluster:
    """One after the other, for what must hold with and without accounting."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session", params=[False, True], ids=["without accounting", "with accounting"])
def forgetful_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One that forgets ended jobs in seconds, as real ones do in minutes; then only accounting knows of them."""
    yield from _started(Settings(accounting=request.param, remembers_s=5))


def _started(settings: Settings) -> Iterator[Cluster]:
    if in_ci():
        install()
    if reason := missing():
        (pytest.fail if in_ci() else pytest.skip)(reason)
    with Cluster(settings) as started:
        yield started


@pytest.fixture(autouse=True)
def _on_the_login_node(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of a Slurm job is in the environment, which names the test's cluster; afterwards no job is left."""
    for name in [name for name in os.environ if name.startswith(SLURM_VARIABLES)]:
        monkeypatch.delenv(name)
    used: list[Cluster] = [request.getfixturevalue(name) for name in CLUSTERS if name in request.fixturenames]
    for one in used:
        monkeypatch.setenv("SLURM_CONF", one.env()["SLURM_CONF"])
    yield
    if "submitit.slurm.slurm" in sys.modules:  # what it remembers of jobs is the same for all clusters
        sys.modules["submitit.slurm.slurm"].SlurmJob.watcher.clear()
    for one in used:
        one.clear()
