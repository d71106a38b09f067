"""The image: what is in it, what is not, and its health check on real runs."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.containers import HARD, IMAGE, Engine
from tests.support.jobs import ROOT
from trainer.rundir import RunDir, read_json

pytestmark = pytest.mark.timeout(1800)

LOOK = """
import importlib.metadata, json, os, pathlib, sys
site = pathlib.Path(next(path for path in sys.path if path.endswith("site-packages")))
print(json.dumps({
    "uid": os.getuid(),
    "packages": {d.metadata["Name"]: d.version for d in importlib.metadata.distributions(path=[str(site)])},
    "folders": sorted(path.name for path in site.iterdir()),
    "compiled": any((site / "launcher" / "__pycache__").glob("cli.*.pyc")),
    "roots": [name for name in ("/src", "/tmp/pip", "/root/.cache", "/work/tests", "/opt/ostinato/tests") if os.path.lexists(name)],
    "tmp": os.listdir("/tmp"),
    "work": sorted(os.listdir("/work")),
}))
"""
WORKERS = """
import json, pathlib, signal, os, sys
for beat in pathlib.Path("/work/runs").glob("*/heartbeats/rank-*.json"):
    os.kill(json.loads(beat.read_text())["pid"], getattr(signal, sys.argv[1]))
"""


@pytest.fixture(scope="module")
def inside(engine: Engine) -> dict:
    """What a container sees of its image."""
    words = ("--rm", "--network", "none", "--entrypoint", "python3", "ostinato:cpu", "-c", LOOK)
    return json.loads(engine.run("run", *words).stdout)


def test_it_is_what_the_dockerfile_says(engine: Engine) -> None:
    facts = engine.inspect(IMAGE, "image")
    settings = facts["Config"]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)[1]
    assert settings["Entrypoint"] == ["ostinato"]
    assert settings["User"] == "1000:1000"
    assert settings["StopSignal"] == "SIGTERM"
    assert settings["WorkingDir"] == "/work"
    assert facts["Healthcheck"]["Test"] == ["CMD", "python3", "/opt/ostinato/healthcheck.py"]
    assert settings["Labels"]["org.opencontainers.image.version"] == version
    assert settings["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_its_packages_are_the_pinned_ones(inside: dict) -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line and '< "3.11"' not in line]
    pinned = dict(re.match(r"([\w.-]+)==([\w.]+)", line).groups() for line in lines)
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    found = {name.lower().replace("_", "-"): version.partition("+")[0] for name, version in inside["packages"].items()}
    unpinned = found.keys() - pinned.keys() - {"ostinato", "setuptools"}  # setuptools comes with torch, for its compiler
    assert unpinned == set()
    assert {name: version for name, version in found.items() if name in pinned} == {name: pinned[name] for name in found if name in pinned}


def test_nothing_of_the_build_is_left(inside: dict) -> None:
    assert inside["uid"] == 1000
    assert inside["roots"] == []
    assert inside["tmp"] == []
    assert inside["work"] == ["configs", "data", "examples", "runs"]
    assert not {"pip", "tests", "pytest", "wheel", "build"} & set(inside["folders"])
    assert inside["compiled"], "a read-only container would compile at each start"


def test_it_answers_without_an_argument(engine: Engine) -> None:
    assert "train" in engine.run("run", "--rm", "--network", "none", *HARD, "ostinato:cpu").stdout


def test_healthy_while_it_trains_and_not_when_the_job_is_frozen(engine: Engine, runs: Path) -> None:
    run = RunDir(runs / "digits")
    limits = ("-e", "OSTINATO_HEALTH_LIMIT_S=4")
    options = (*(word for word in HARD if word != "--no-healthcheck"), *limits)
    name = engine.start("watched", runs, "train", "configs/digits.yaml", "train.epochs=5000", "--nproc-per-node", "2", options=options)

    def healthy() -> bool:
        return engine.run("healthcheck", "run", name, check=False).returncode == 0

    assert healthy(), "a run that is starting is healthy"
    engine.wait_until(lambda: run.heartbeat(1).exists() and read_json(run.heartbeat(1))["begun"], name)
    assert healthy()
    look = ("exec", name, "python3", "/opt/ostinato/healthcheck.py", "--limit-s", "4")
    assert engine.run(*look).stdout == "1 run under way\n"
    engine.run("exec", name, "python3", "-c", WORKERS, "SIGSTOP")
    engine.wait_until(lambda: not healthy(), name)
    frozen = engine.run(*look, check=False)
    assert frozen.returncode == 1
    assert re.fullmatch(r"/work/runs/digits: has not moved for \d+ s since step \d+\n", frozen.stdout)
    engine.run("exec", name, "python3", "-c", WORKERS, "SIGCONT")
    engine.wait_until(healthy, name)
    engine.run("stop", "-t", "60", name)
    assert engine.end(name) == 75


def test_healthy_when_no_run_is_under_way_although_an_earlier_one_was_killed(engine: Engine, runs: Path) -> None:
    run = RunDir(runs / "digits")
    name = engine.start("killed", runs, "train", "configs/digits.yaml", "train.epochs=5000")
    engine.wait_until(lambda: run.heartbeat(0).exists() and read_json(run.heartbeat(0))["begun"], name)
    engine.run("kill", "-s", "KILL", name)
    assert engine.end(name) == 137
    time.sleep(2)
    words = ("--rm", "--network", "none", *HARD, "-v", f"{runs}:/work/runs", "--entrypoint", "python3", "ostinato:cpu")
    done = engine.run("run", *words, "/opt/ostinato/healthcheck.py", "--limit-s", "1", "--start-limit-s", "1")
    assert done.stdout == "0 runs under way\n"


def test_the_context_holds_only_what_the_image_is_made_of(engine: Engine, tmp_path: Path) -> None:
    """The builder itself says what it gets, from a folder with things that nobody wants in an image."""
    for name in (
        "runs/a/secret",
        "data/x",
        ".git/config",
        ".venv/x",
        "launcher/__pycache__/x.pyc",
        "launcher/cli.py",
        "tests/t.py",
        "docker/install.sh",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / ".dockerignore").write_text((ROOT / ".dockerignore").read_text())
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY . /context\n")
    subprocess.run(
        [engine.docker, "build", "-q", "-f", str(tmp_path / "Dockerfile"), "-t", "ostinato:context", str(tmp_path)],
        env=engine.env,
        check=True,
    )
    list_files = (
        "import pathlib; print(*sorted(str(p.relative_to('/context')) for p in pathlib.Path('/context').rglob('*') if p.is_file()))"
    )
    done = engine.run("run", "--rm", "--network", "none", "--entrypoint", "python3", "ostinato:context", "-c", list_files)
    assert done.stdout.split() == ["docker/install.sh", "launcher/cli.py"]
