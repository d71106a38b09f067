"""Each profile in slurm/ gives the script for sbatch that is written down beside these tests: a change of one is seen, and meant.

``python -m tests.project.test_slurm_scripts`` writes them down anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launcher.profile import load_profile
from tests.support.jobs import ROOT, environment

GOLDEN = Path(__file__).with_name("golden")
AGAIN = "python -m tests.project.test_slurm_scripts"
PROFILES = sorted(path.stem for path in (ROOT / "slurm").glob("*.yaml"))
PROBE = """
import sys
from launcher.cli import main
code = main()
print("loaded:", sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "torchvision"}), file=sys.stderr)
sys.exit(code)
"""


def dry_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``ostinato submit … --dry-run`` where there is no Slurm, and no git but what lies in the folder's ``bin/``."""
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("configs", "slurm"):
        shutil.copytree(ROOT / name, folder / name, dirs_exist_ok=True)
    command = [sys.executable, "-c", PROBE, "submit", "configs/digits.yaml", "--dry-run", *arguments]
    variables = environment(PATH=str(folder / "bin"))
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=120, check=False)


def script(folder: Path, profile: str) -> str:
    """A profile's script in a git work tree, without what differs between two machines."""
    git = shutil.which("git")
    assert git is not None
    (folder / "bin").mkdir()
    (folder / "bin" / "git").symlink_to(git)
    subprocess.run([git, "init", "--quiet", str(folder)], check=True)
    (folder / "ostinato.sif").touch()
    done = dry_run(folder, "--profile", profile)
    assert done.returncode == 0, done.stderr
    text = done.stdout.replace(str(folder), "/project").replace(sys.executable, "python")
    text = re.sub(r"export PYTHONPATH=/project/runs/digits/slurm/code/[0-9a-f]{64}\$.*\n", "", text)  # of a checkout, not of a wheel
    text = re.sub(r"(?<=/slurm/code/)[0-9a-f]{64}", "SHA256", text)
    return re.sub(r"OMP_NUM_THREADS=\d+", "OMP_NUM_THREADS=1", text)


def golden(profile: str) -> Path:
    return GOLDEN / f"{profile}.{'sbatch' if load_profile(profile, {}, ROOT / 'slurm').executor == 'slurm' else 'txt'}"


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_gives_the_script_that_is_written_down(tmp_path: Path, profile: str) -> None:
    path = golden(profile)
    assert path.exists(), f"{path.name} is missing; {AGAIN}"
    assert script(tmp_path, profile) == path.read_text(), f"meant? then write it down: {AGAIN}"
    assert not (tmp_path / "runs").exists()


def test_every_script_that_is_written_down_belongs_to_a_profile() -> None:
    assert sorted(GOLDEN.iterdir()) == sorted(golden(profile) for profile in PROFILES), AGAIN


def test_a_dry_run_without_slurm_warns_in_one_line_and_loads_neither_torch_nor_numpy(tmp_path: Path) -> None:
    done = dry_run(tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("#!/bin/bash")
    assert done.stderr.splitlines() == ["warning: there is no Slurm here: whether it can run this is not known", "loaded: []"]


def test_a_script_is_valid_shell_whatever_the_names_are(tmp_path: Path) -> None:
    folder = tmp_path / "it's a $HOME; too"
    folder.mkdir()
    done = dry_run(folder, "--profile", "apptainer")
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr


def write_down() -> None:
    """Write every profile's script down."""
    GOLDEN.mkdir(exist_ok=True)
    for old in GOLDEN.iterdir():
        old.unlink()
    for profile in PROFILES:
        with tempfile.TemporaryDirectory() as folder:
            golden(profile).write_text(script(Path(os.path.realpath(folder)), profile))


if __name__ == "__main__":
    write_down()
