"""What holds for all tests."""

import os
import signal
from typing import Any

import hypothesis
import pytest

# A runner started by nohup, or in the background of a script, ignores these, and so would every job that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing on a busy machine. In CI a change meets the same examples as the one before it; by hand, new ones.
hypothesis.settings.register_profile("untimed", deadline=None, derandomize=bool(os.environ.get("OSTINATO_CI")))
hypothesis.settings.load_profile("untimed")

# torch.compile would start a pool of processes, one a core, for one small function; whatever a test starts inherits this.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


# Two workers share the tests out by file, and these folders whole: what their tests need is set up once. They come first, because they
# mostly wait, for Slurm and for packages, and the other worker computes meanwhile.
TOGETHER = ("tests/slurm/", "tests/containers/")


def group_of(nodeid: str) -> str:
    """The tests that one worker runs one after another."""
    path = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if path.startswith(folder)), path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups in order."""
    items.sort(key=lambda item: group_of(item.nodeid) not in TOGETHER)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests out by their groups."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)
