"""Malformed configs, overrides, run names, data sets and checkpoints: the documented exit code, one line a problem, nothing lost."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher.cli import PLACE
from tests.chaos.bad_inputs import SMALL, Case, cases
from tests.chaos.result import Result
from tests.support import jobs
from tests.support.forked import Answer, Forks
from tests.support.jobs import environment
from trainer.rundir import RunDir

MAX_LINE = 700
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCKS = ("lock", "fence")
SHORT = ("train.epochs=1", "train.max_steps=2")  # for what is accepted, and trained


def malformed(seed: int, count: int = 300, commands: int | None = None) -> Result:
    """Give malformed inputs to the project.

    Args:
        seed: chooses them.
        count: how many.
        commands: how many of them are given to the real command in a process of its own; a fifteenth when left out.
    """
    commands = max(2, count // 15) if commands is None else commands
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as base, Forks() as forks:
        template = _template(forks, Path(base))
        given = cases(seed, count, lambda dice: damaged_run(dice, template))
        real = set(random.Random(seed).sample([number for number, case in enumerate(given) if _may_be_real(case)], commands))
        for number, case in enumerate(given):
            fault = _try(case, Path(base, str(number)), forks, number in real)
            if fault:
                failures.append(f"{case.name}: {fault} (seed {seed}, count {count})")
    return Result("malformed", count, count - len(failures), failures, f"{len(real)} of them through the real command")


def _may_be_real(case: Case) -> bool:
    """Whether it may be given to the real command: what is accepted there is trained, and must not be downloaded."""
    return case.entry != "command" and "mnist" not in case.name and "cifar" not in case.name


def _template(forks: Forks, base: Path) -> Path:
    """A run of ten steps with a checkpoint every second one, whose last event is forgotten: its next start goes on."""
    folder = base / "template"
    folder.mkdir()
    (folder / "config.yaml").write_text(SMALL)
    answer = forks.run("worker", ["config.yaml"], folder)
    assert answer.code == 0, answer
    events = folder / "runs" / "config" / "events.jsonl"
    kept = [line for line in events.read_text().splitlines(keepends=True) if '"finished"' not in line]
    events.write_text("".join(kept))
    return folder


def _try(case: Case, base: Path, forks: Forks, real: bool) -> str | None:
    """Give one input, to a fork or to the real command; what is wrong about the answer."""
    work = base / "work"
    work.mkdir(parents=True)
    for name, data in case.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    if case.prepare is not None:
        case.prepare(work)
    if real and case.entry == "check":
        case = _exactly(case, base, forks)
    before, rows = _tree(base), _Rows.of(work)
    answer = _really(case, work) if real else forks.run(case.entry, case.arguments, work)
    fault = _judged(case, answer, work, told_by_launcher=real) or _files(case, answer, before, base) or rows.lost(case, answer, work)
    shutil.rmtree(base)
    return fault


def _exactly(case: Case, base: Path, forks: Forks) -> Case:
    """The case for the real command, with the one exit code that is right: what is refused stays refused, and what is accepted ends as
    one worker alone ends."""
    twin = base / "twin"
    shutil.copytree(base / "work", twin)
    given = [*case.arguments, *SHORT]
    codes = (2,)
    if 0 in case.codes and forks.run("check", given, twin).code == 0:
        # 4: what cannot be refused by what the config says may not fit its data.
        codes = (4,) if forks.run("worker", given, twin).code == 4 else (0,)
    shutil.rmtree(twin)
    return replace(case, arguments=given, codes=codes)


def _really(case: Case, work: Path) -> Answer:
    """Give it to the command itself."""
    command = [sys.executable, "-m", "launcher", "train", *case.arguments]
    try:
        done = subprocess.run(command, cwd=work, env=environment(), capture_output=True, timeout=180, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return Answer(None, "", "")
    return Answer(done.returncode, *(text.decode(errors="backslashreplace") for text in (done.stdout, done.stderr)))


def _judged(case: Case, answer: Answer, work: Path, *, told_by_launcher: bool) -> str | None:
    """What is wrong with the exit code or with what is said."""
    if answer.code not in case.codes:
        return f"exit code {answer.code}, not {' or '.join(map(str, case.codes))}: {(answer.err or answer.out)[-400:]!r}"
    said = answer.err
    if case.entry == "worker" and not told_by_launcher and answer.code != 0:
        outcomes = sorted(work.rglob("rank-0.outcome.json"))
        said = json.loads(outcomes[-1].read_text())["error"] + "\n" if outcomes else said
        if said.count("\n") != 1:
            return f"not one line: {said[:400]!r}"
    if "Traceback" in answer.out + said:
        return f"a traceback: {said[-400:]!r}"
    if answer.code == 0:
        return None if not case.said or re.search(case.said, answer.out + answer.err) else f"{case.said!r} is not said: {answer.out!r}"
    return _lines(case, said, told_by_launcher=told_by_launcher)


def _lines(case: Case, said: str, *, told_by_launcher: bool) -> str | None:
    """What is wrong with the lines of a refusal."""
    lines = said.splitlines()
    if not lines or not said.endswith("\n"):
        return f"nothing is said, or half a line: {said!r}"
    if case.said and not re.search(case.said, said):
        return f"{case.said!r} is not said: {said[:400]!r}"
    if lines[0].startswith("Usage:"):  # a wrong option, in the words of every command line
        return None if any(line.startswith("Error:") for line in lines) else f"a usage without its error: {said!r}"
    for line in lines:
        if not line.strip() or len(line) > MAX_LINE or not line.isprintable():
            return f"a line that is empty, too long or not printable: {line[:200]!r}"
        if case.entry != "worker" and not told_by_launcher and not (line.startswith("ostinato: ") or PLACE.match(line)):
            return f"a line that does not say where: {line!r}"
    if told_by_launcher and case.entry == "worker" and len(lines) > 15:
        return f"{len(lines)} lines"
    return None


def _files(case: Case, answer: Answer, before: dict[str, str], base: Path) -> str | None:
    """What is wrong with the files: nothing is made outside, nothing is lost, a refusal leaves everything as it was."""
    after = _tree(base)
    roots = tuple(f"work/{argument.partition('=')[2]}" for argument in case.arguments if argument.startswith("run.root="))
    outside = [name for name in after if name not in before and not name.startswith(("work/runs", *roots))]
    allowed = [name for name in outside if "__pycache__" not in name]
    if allowed:
        return f"made outside the run folder: {allowed[:3]}"
    runs = base / "work" / "runs"
    strange = [p.name for p in runs.iterdir() if not NAME.fullmatch(p.name)] if runs.is_dir() else []
    if strange:
        return f"a run of a strange name: {strange}"
    if answer.code == 2 and after != before:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        return f"a refusal that changed files: {changed[:5]}"
    lost = [name for name, digest in before.items() if _kept(name, answer) and digest not in after.values()]
    return f"lost: {lost[:3]}" if lost else None


def _kept(name: str, answer: Answer) -> bool:
    """What no start may lose: everything, but what each start writes anew. `_Rows` looks into the files that only grow."""
    anew = ["/heartbeats/", "/evaluation-", "/events.jsonl", "/environment.json", "/system.jsonl", "/metrics.jsonl", "/metrics.csv"]
    anew += ["/inputs.json"]
    anew += ["/checkpoints/best.json", "/checkpoints/last.json"] if answer.code == 0 else []
    return not any(part in name for part in anew)


@dataclass(frozen=True)
class _Rows:
    """What is acknowledged in a run's files that only grow, before a start."""

    events: bytes
    metrics: list[dict[str, Any]]

    @classmethod
    def of(cls, work: Path) -> _Rows:
        """Those of the damaged run."""
        run = RunDir(work / "runs" / "config")
        return cls(run.events.read_bytes() if run.events.is_file() else b"", jobs.rows(run) if run.metrics.is_file() else [])

    def lost(self, case: Case, answer: Answer, work: Path) -> str | None:
        """What is wrong with them after it: a row is gone, stands there twice, or a step has none."""
        run, after = RunDir(work / "runs" / "config"), _Rows.of(work)
        if not after.events.startswith(self.events):
            return "lost: a part of events.jsonl"
        gone = [row for row in self.metrics if row not in after.metrics]
        if gone:
            return f"lost: {len(gone)} rows of metrics.jsonl, the first is {gone[0]}"
        if answer.code != 0 or not run.metrics.is_file() or not run.finished():
            return None
        steps = [row["step"] for row in after.metrics if row["split"] == "train" and "lr" in row]
        wanted = list(range(1, max(steps, default=0) + 1))
        # Rows that the damage has taken do not come back; no other is missing, and none stands there twice.
        exact = steps == wanted if "metrics.jsonl" not in case.name else len(set(steps)) == len(steps)
        return None if exact else f"the rows of metrics.jsonl are of the steps {steps}"


def _tree(base: Path) -> dict[str, str]:
    """The files below a folder with their content's hash; folders too; locks say who held them last and do not count."""
    found = {}
    for path in base.rglob("*"):
        if path.name not in LOCKS:
            found[str(path.relative_to(base))] = "folder" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def damaged_run(dice: random.Random, template: Path) -> Case:
    """A run with a damaged file, that is to go on."""
    what = dice.choice(["state", "state", "manifest", "manifest", "folder"])
    how = dice.choice(["flip", "cut", "zeros", "empty", "gone", "nonsense", "more"])
    scope = dice.choice(["newest", "newest", "all"])
    target = dice.choice(
        ["checkpoint", "checkpoint", "checkpoint", "best.json", "last.json", "metrics.jsonl", "events.jsonl", "environment.json"]
    )
    seed = dice.randrange(1 << 30)

    def damage(work: Path) -> None:
        shutil.copytree(template, work, dirs_exist_ok=True)
        run = work / "runs" / "config"
        rest = random.Random(seed)
        if target != "checkpoint":
            folder = run / "checkpoints" if target in ("best.json", "last.json") else run
            _damage(folder / target, how, rest)
            return
        names = sorted(p for p in (run / "checkpoints").glob("step-*"))
        for checkpoint in names if scope == "all" else names[-1:]:
            if what == "folder":
                shutil.rmtree(checkpoint)
            else:
                _damage(checkpoint / ("state.pt" if what == "state" else "manifest.json"), how, rest)

    if target != "checkpoint":
        return Case(f"{target}: {how}", "worker", ["config.yaml"], codes=(0,), prepare=damage)
    newest = "step-00000010"
    codes, said = ((3,), "checkpoint") if scope == "all" else ((0,), newest)
    if what == "folder":
        how, said = "gone", f"{newest} was saved here" if scope == "all" else ""
    return Case(f"{what} of {scope} checkpoints: {how}", "worker", ["config.yaml"], codes=codes, said=said, prepare=damage)


def _damage(path: Path, how: str, dice: random.Random) -> None:
    data = path.read_bytes()
    at = dice.randrange(len(data))
    changed = {
        "flip": data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :],
        "cut": data[:at],
        "zeros": data[:at] + bytes(min(4096, len(data) - at)) + data[at + 4096 :],
        "empty": b"",
        "nonsense": dice.randbytes(200),
        "more": data + b"x",
    }
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(changed[how])


if __name__ == "__main__":
    found = malformed(int(sys.argv[1]) if len(sys.argv) > 1 else 0, int(sys.argv[2]) if len(sys.argv) > 2 else 60)
    print(f"{found.good} of {found.wanted}, {found.notes}", *found.failures, sep="\n")
