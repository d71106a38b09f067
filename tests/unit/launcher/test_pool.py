"""Runs on this machine, a bounded number at a time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from launcher.pool import Pool
from tests.support.jobs import DIGITS, LIMIT_S, environment
from trainer.prepare import prepare
from trainer.rundir import RunDir, RunLock

SITE = """
import time
from pathlib import Path

here = Path(__file__).parent
(here / "started").touch()
while not (here / "go").exists():
    time.sleep(0.01)
"""


def test_a_run_that_somebody_else_began_a_moment_earlier_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    prepared = prepare(DIGITS, ["run.name=one"], world_size=1)
    run = RunDir(prepared.run.path.absolute())
    run.event("finished")  # so that it has little to do once it may
    (tmp_path / "sitecustomize.py").write_text(SITE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{environment()['PYTHONPATH']}")
    pool = Pool({"one": ["train", str(DIGITS), "run.name=one", "--nproc-per-node", "1"]}, {"one": run}, tmp_path, 1)

    told: list[str] = []

    def be_quicker() -> None:
        limit = time.monotonic() + LIMIT_S
        while not (tmp_path / "started").exists() and time.monotonic() < limit:
            time.sleep(0.01)
        lock = RunLock(run.lock)
        (tmp_path / "go").touch()
        while "waiting for its end" not in "".join(told) and time.monotonic() < limit:
            told.append(capfd.readouterr().err)
            time.sleep(0.01)
        lock.release()

    other = threading.Thread(target=be_quicker)
    other.start()
    assert not pool.run()
    other.join()
    lines = "".join([*told, capfd.readouterr().err]).splitlines()
    assert lines[:3] == ["one: started, 1 of 1", "one: is run by somebody else; waiting for its end", "one: started, 1 of 1"]
    assert lines[3].startswith("one: finished · ")
    assert len(lines) == 4
    assert "in use by process" in (tmp_path / "one.log").read_text()
