"""docs/containers.md: each command that it shows is typed, where `docker` is podman; and the compose file is what the page says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.project.test_commands_in_the_docs import commands
from tests.support.containers import Engine
from tests.support.jobs import ROOT, environment, events, weights
from tests.support.slurm_machine import free_ports
from trainer.rundir import RunDir, read_jsonl

pytestmark = pytest.mark.timeout(1800)

PAGE = ROOT / "docs" / "containers.md"
COMPOSE = ROOT / "docker" / "compose.yaml"
CONTEXT = (
    ".dockerignore",
    "LICENSE",
    "README.md",
    "configs",
    "constraints.txt",
    "docker",
    "examples",
    "launcher",
    "pyproject.toml",
    "trainer",
)


def test_the_commands_of_the_page_work_one_after_another(engine: Engine, tmp_path: Path) -> None:
    for name in CONTEXT:  # with their times, so that the builder finds its layers
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, tmp_path / name)
    path = f"{engine.bin}{os.pathsep}{os.environ['PATH']}"
    env = environment(PATH=path, TENSORBOARD_PORT=str(free_ports(1)[0]))
    said, long, strict = {}, RunDir(tmp_path / "runs" / "long"), RunDir(tmp_path / "runs" / "strict")
    try:
        for command in commands(PAGE):
            if command.startswith("docker exec"):  # a reader lets it train for a while
                engine.wait_until(lambda: any(read_jsonl(long.metrics)), "training")
            done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
            assert done.returncode == 0, f"$ {command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            said[command.split(" -v ")[0]] = done.stdout
    finally:
        engine.run("compose", "-f", "docker/compose.yaml", "down", "-v", check=False)
    assert said["docker inspect --format '{{.State.ExitCode}}' training"].strip() == "75"
    assert said["docker exec training python3 /opt/ostinato/healthcheck.py"] == "1 run under way\n"
    assert len(events(long, "stopped")) == len(events(long, "resumed")) == len(events(long, "finished")) == 1
    assert weights(strict)
    assert (tmp_path / "ostinato-cpu.tar").stat().st_size > 2**28


def test_the_compose_file_has_the_services_of_the_page() -> None:
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    services, text = compose["services"], PAGE.read_text(encoding="utf-8")
    sentence = re.search(r"has three services: (.*?)\.\s", text, flags=re.DOTALL)[1]
    assert set(services) == {name for name in re.findall(r"`(\w+)`", sentence)} == {"node0", "node1", "tensorboard"}
    assert f"{compose['name']}_runs" in text
    for rank in (0, 1):
        node = services[f"node{rank}"]
        assert node["hostname"] == f"node{rank}"
        assert node["command"][node["command"].index("--node-rank") + 1] == str(rank)
        assert node["read_only"] and node["cap_drop"] == ["ALL"] and node["networks"] == ["training"]
    first, second = (services[name]["command"] for name in ("node0", "node1"))
    assert [words for words in zip(first, second, strict=True) if words[0] != words[1]] == [("0", "1")]
    assert compose["networks"]["training"]["internal"] is True
    assert all(port.startswith("127.0.0.1:") for port in services["tensorboard"]["ports"]), "nobody else's business"


def test_what_compose_trains_has_the_bits_of_one_node_with_two_workers(engine: Engine, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine.env, "TENSORBOARD_PORT", str(free_ports(1)[0]))
    assert engine.end(engine.start("alone", runs, "train", "configs/digits.yaml", "hardware.threads=1", "--nproc-per-node", "2")) == 0
    try:
        engine.run("compose", "-f", str(COMPOSE), "up", "-d")
        codes = engine.run("wait", "ostinato_node0_1", "ostinato_node1_1", timeout=300).stdout.split()
        assert codes == ["0", "0"], engine.logs("ostinato_node0_1") + engine.logs("ostinato_node1_1")
        shown = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6006/data/runs', timeout=5).read().decode())"
        engine.wait_until(
            lambda: "digits" in engine.run("exec", "ostinato_tensorboard_1", "python3", "-c", shown, check=False).stdout,
            "ostinato_tensorboard_1",
        )
        words = ("--rm", "--entrypoint", "cat", "-v", "ostinato_runs:/work/runs", "ostinato:cpu", "runs/digits/events.jsonl")
        together = re.findall(r'"weights": "(\w+)"', engine.run("run", *words).stdout)[-1]
    finally:
        engine.run("compose", "-f", str(COMPOSE), "down", "-v", check=False)
    environment_of_one = (runs / "digits" / "environment.json").read_text()
    assert together == weights(RunDir(runs / "digits")), environment_of_one
