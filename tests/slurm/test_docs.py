"""docs/slurm.md, typed from its beginning to its end on a real cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.profile import Profile
from launcher.sbatch_options import OURS
from tests.project.test_commands_in_the_docs import commands
from tests.support.jobs import LIMIT_S, ROOT, environment
from tests.support.slurm_cluster import Cluster, wait_until
from trainer.rundir import RunDir, read_jsonl

PAGE = ROOT / "docs" / "slurm.md"
# A reader looks, and types this when there is something to see.
LATER = re.compile(r"ostinato (logs|stop) runs/two|scontrol requeue")


def files() -> dict[str, str]:
    """The files that the page shows, by the name in their first line."""
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return dict(blocks)


def moved(run: RunDir) -> int:
    """Turns that have begun and trained."""
    return len({row["attempt"] for row in read_jsonl(run.metrics)})


@pytest.mark.timeout(900)
def test_the_commands_of_the_page_work_one_after_another(cluster: Cluster, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ostinato").write_text(f'#!/bin/sh\nexec {sys.executable} -m launcher "$@"\n')
    (tmp_path / "bin" / "ostinato").chmod(0o755)
    for name, text in files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    here = environment(SLURM_CONF=cluster.env()["SLURM_CONF"], PATH=f"{tmp_path}/bin{os.pathsep}{cluster.env()['PATH']}")
    two, turns, said = RunDir(tmp_path / "runs" / "two"), 0, {}
    typed = commands(PAGE)
    for command in typed:
        if "run.name=two" in command or "scontrol requeue" in command:
            turns += 1
        if LATER.search(command):
            expected = turns - ("scontrol requeue" in command)
            wait_until(f"turn {expected} before: {command}", lambda least=expected: moved(two) >= least, LIMIT_S)
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=here, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout + done.stderr
    assert len(typed) >= 15
    assert "PreemptMode=REQUEUE" in said["scontrol show partition low"]
    assert said["ostinato submit configs/digits.yaml --profile mine --dry-run"].startswith("#!/bin/bash")
    assert "test accuracy" in said["ostinato submit configs/digits.yaml --profile mine --wait"]
    assert re.search(r"digits-lr0.1 +finished", said["ostinato status"])
    assert "training from" in said["ostinato logs runs/two"]
    assert "with checkpoint step-" in said["ostinato stop runs/two"]
    assert moved(two) == turns
    sweeps = [text for command, text in said.items() if command.startswith("ostinato sweep")]
    assert "#SBATCH --array=0-2%2" in sweeps[0]
    assert sweeps[1].count("  finished ") == 3


def test_every_key_of_a_profile_is_on_the_page_and_the_profiles_that_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in Profile.model_fields if name != "executor")
    assert all(f"`{path.stem}`" in text for path in (ROOT / "slurm").glob("*.yaml"))
    assert set(files()) == {"slurm/mine.yaml"}
    assert "constraint" not in OURS
