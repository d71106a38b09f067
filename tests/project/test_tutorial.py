"""The tutorial, typed from its first command to its last in a fresh copy of the repository, and held against what the page shows."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.jobs import ROOT, environment, ostinato
from trainer.rundir import RunDir, read_jsonl

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
ACTIVATE = "source .venv/bin/activate"
LIMIT_S = 600.0

pytestmark = pytest.mark.timeout(1200)  # it installs torch, too


@dataclass
class Block:
    """Commands of the page, what it shows below them, and what they printed here."""

    commands: list[str]
    shown: str
    printed: str = ""


def blocks() -> list[Block]:
    found: list[Block] = []
    for match in re.finditer(r"^```(bash|text)\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
        language, body = match.groups()
        if language == "bash":
            found.append(Block(body.splitlines(), ""))
        elif PAGE[: match.start()].endswith("```\n\n"):
            found[-1].shown = body
    return found


def expected(shown: str) -> re.Pattern[str]:
    """What is shown as a pattern: ``…`` is anything in a line, alone in its line any lines; spaces may be more or fewer."""
    lines = []
    for line in shown.splitlines():
        words = [".*".join(re.escape(part) for part in word.split("…")) for word in line.split()]
        lines.append(r"(?:[^\n]*\n)*?" if line == "…" else r"[ ]*" + "[ ]+".join(words) + r"[ ]*\n")
    return re.compile("".join(lines))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Block]]:
    """Every command, one after another."""
    folder = tmp_path_factory.mktemp("first") / "ostinato"
    copy_of_the_repository(folder)
    # PASSIVE: threads of so small a model would wait for each other longer than they compute, where the machine has other things to do.
    variables = environment(TORCH_HOME=str(folder / "none"), OMP_WAIT_POLICY="PASSIVE")
    del variables["PYTHONPATH"]
    typed = blocks()
    for block in typed:
        for command in block.commands:
            if command == ACTIVATE:  # what it does for the commands after it
                variables["PATH"] = f"{folder}/.venv/bin{os.pathsep}{variables['PATH']}"
            else:
                block.printed += run(command, folder, variables)
    return folder, typed


def copy_of_the_repository(folder: Path) -> None:
    """What a clone would bring, with what has not been committed yet."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run(command: str, folder: Path, variables: dict[str, str]) -> str:
    """Type one command, and Ctrl-C where the page says so; what it prints."""
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    code = 0
    try:
        if command.endswith("# Ctrl-C"):
            wait_for_an_epoch(folder / "runs" / re.findall(r"run\.name=(\S+)", command)[0], process)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal: to everything that the command has started
            code = 75
        printed, _ = process.communicate(timeout=LIMIT_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code, f"$ {command}\n{printed}"
    return printed


def wait_for_an_epoch(run_dir: Path, process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not any(row.get("split") == "valid" for row in read_jsonl(run_dir / "metrics.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "no epoch"
        time.sleep(0.05)


def test_each_command_prints_what_the_page_shows(walk: tuple[Path, list[Block]]) -> None:
    _, typed = walk
    assert sum(bool(block.shown) for block in typed) >= 8
    for block in typed:
        shown, printed = expected(block.shown), re.sub(r"[ \t]+$", "", block.printed, flags=re.MULTILINE).rstrip("\n") + "\n"
        assert not block.shown or shown.fullmatch(printed), f"{block.commands}\nshown:\n{block.shown}\nprinted:\n{printed}"


def test_the_model_has_learnt_the_shapes(walk: tuple[Path, list[Block]]) -> None:
    folder, _ = walk
    found = json.loads(next((folder / "runs" / "pictures" / "evaluations").glob("valid-*/evaluation.json")).read_text())
    assert found["metrics"]["accuracy"] > 0.8
    with (folder / "answers.csv").open(newline="") as file:
        right = [row["input"].startswith(f"new/{row['label_1']}-") for row in csv.DictReader(file)]
    assert len(right) == 12
    assert sum(right) >= 10


def test_the_files_that_the_page_names_are_there(walk: tuple[Path, list[Block]]) -> None:
    folder, _ = walk
    exported = next((folder / "runs" / "pictures" / "exports").iterdir())
    for path in ("pictures.yaml", "pictures-data.png", "compared.html", "runs/pictures/report.html"):
        assert (folder / path).stat().st_size > 500, path
    assert {"model.safetensors", "load.py", "classes.json"} <= {path.name for path in exported.iterdir()}
    script = "import torch; from load import load, CLASSES; print(load()(torch.zeros(1, 3, 32, 32)).shape[1], *CLASSES)"
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", script], cwd=exported, env=alone, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["3", "circle", "square", "triangle"], done.stderr


def test_the_stopped_run_went_on_where_it_was(walk: tuple[Path, list[Block]]) -> None:
    folder, _ = walk
    steps = [row["step"] for row in read_jsonl(RunDir(folder / "runs" / "cut").metrics) if row.get("split") == "valid"]
    assert steps == sorted(set(steps))
    assert len(steps) == 12


def test_the_messages_of_the_table_are_those_that_are_printed(walk: tuple[Path, list[Block]], tmp_path: Path) -> None:
    table = PAGE[PAGE.index("## What often goes wrong") : PAGE.index("Every message is one line")]
    messages = re.findall(r"^\| `([^`]*)`", table, flags=re.MULTILINE)
    said = "".join(planted(tmp_path, walk[0]))
    assert len(messages) >= 6
    for message in messages:
        assert re.search(".+".join(re.escape(part) for part in message.split("…")), said), f"{message!r} is none of\n{said}"


def planted(folder: Path, walked: Path) -> list[str]:
    """What is said to mistakes that are made on purpose."""
    layouts = {
        "flat": ["1.jpg", "2.jpg"],
        "notebook": ["cats/1.jpg", "dogs/1.jpg", ".ipynb_checkpoints/1.jpg"],
        "apart": ["train/cats/1.jpg", "train/dogs/1.jpg", "val/cats/1.jpg"],
    }
    for name, files in layouts.items():
        for file in files:
            (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / file).touch()
    for name in ("a", "b"):
        (folder / "torn" / name).mkdir(parents=True)
        shutil.copy(walked / "new" / "circle-0.png", folder / "torn" / name)
    picture = (walked / "new" / "circle-0.png").read_bytes()
    (folder / "torn" / "a" / "half.png").write_bytes(picture[: len(picture) - 60])
    shutil.copy(walked / "pictures.yaml", folder)
    answers = [ostinato(folder, "init", name) for name in (*layouts, "torn")]
    answers.append(ostinato(folder, "init", "torn"))
    answers.append(ostinato(walked, "train", "pictures.yaml", "optimizer.lr=7"))
    return [answer.stdout + answer.stderr for answer in answers]


def test_the_readme_leads_here_with_commands_of_this_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](docs/tutorial.md)" in readme
    shown = [
        line.split("#")[0].strip()
        for block in re.findall(r"^```bash\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
        for line in block.splitlines()
    ]
    here = [command for block in blocks() for command in block.commands]
    ours = [command for command in shown if command]
    assert len(ours) >= 5
    assert [command for command in ours if not any(typed.startswith(command) for typed in here)] == []


def test_every_page_that_the_tutorial_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", PAGE)
    assert len(links) >= 8
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []
