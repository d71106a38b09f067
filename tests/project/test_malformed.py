"""Malformed inputs of a seed: the exit code that the documents give, one line a problem, nothing written or lost."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.chaos import bad_inputs, malformed
from tests.support.forked import Answer
from trainer.rundir import RunDir


def test_malformed_inputs_are_answered_as_documented_and_nothing_is_lost() -> None:
    found = malformed.malformed(seed=5, count=40, commands=2)
    assert found.ok, "\n".join(found.failures)


def test_the_inputs_of_a_seed_are_always_the_same_and_those_of_another_are_others() -> None:
    def made(seed: int) -> list[tuple[str, list[str], dict[str, bytes]]]:
        given = bad_inputs.cases(seed, 40, lambda dice: malformed.damaged_run(dice, Path()))
        return [(case.name, case.arguments, case.files) for case in given]

    assert made(1) == made(1)
    assert made(1) != made(2)


def judged(case: bad_inputs.Case, answer: Answer, work: Path) -> str:
    before = malformed._tree(work.parent)
    return malformed._judged(case, answer, work, told_by_launcher=False) or malformed._files(case, answer, before, work.parent) or ""


def test_wrong_answers_are_found(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    case = bad_inputs.Case("x", "check", ["config.yaml"], codes=(2,), said="epochs")
    assert judged(case, Answer(2, "", "config.yaml:3: train.epochs: missing\n"), work) == ""
    assert "exit code 1" in judged(case, Answer(1, "", "config.yaml:3: train.epochs: missing\n"), work)
    assert "exit code None" in judged(case, Answer(None, "", ""), work)
    assert "traceback" in judged(case, Answer(2, "", "Traceback (most recent call last):\nepochs\n"), work)
    assert "nothing is said" in judged(case, Answer(2, "", ""), work)
    assert "is not said" in judged(case, Answer(2, "", "config.yaml:3: train.steps: missing\n"), work)
    assert "where" in judged(case, Answer(2, "", "epochs missing\n"), work)
    assert "not printable" in judged(case, Answer(2, "", "config.yaml:3: epochs \x1b[31m\n"), work)


def test_files_that_come_or_go_are_found(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "runs" / "one").mkdir(parents=True)
    kept = work / "runs" / "one" / "state.pt"
    kept.write_text("weights")
    before = malformed._tree(tmp_path)
    case = bad_inputs.Case("x", "worker", ["config.yaml"])
    assert malformed._files(case, Answer(3, "", ""), before, tmp_path) is None
    kept.rename(work / "runs" / "one" / "bad-state.pt")
    assert malformed._files(case, Answer(3, "", ""), before, tmp_path) is None  # put aside, not lost
    assert "changed files" in str(malformed._files(case, Answer(2, "", ""), before, tmp_path))
    (work / "runs" / "one" / "bad-state.pt").unlink()
    assert "lost" in str(malformed._files(case, Answer(3, "", ""), before, tmp_path))
    kept.write_text("weights")
    (work / "runs" / "ü").mkdir()
    assert "strange name" in str(malformed._files(case, Answer(0, "", ""), before, tmp_path))
    (tmp_path / "x").write_text("")
    assert "outside" in str(malformed._files(case, Answer(0, "", ""), before, tmp_path))


def test_rows_that_vanish_or_stand_twice_are_found(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "config")
    run.path.mkdir(parents=True)
    rows = [{"split": "train", "step": step, "lr": 0.1, "attempt": 0} for step in (1, 2, 3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    run.events.write_text('{"event": "checkpointed"}\n')
    run.metrics.write_text(text)
    before = malformed._Rows.of(tmp_path)
    whole, torn = (bad_inputs.Case(name, "worker", ["config.yaml"]) for name in ("state of newest", "metrics.jsonl: cut"))
    run.event("finished")
    assert before.lost(whole, Answer(0, "", ""), tmp_path) is None
    run.metrics.write_text(text.replace('"attempt": 0', '"attempt": 1'))
    assert before.lost(whole, Answer(0, "", ""), tmp_path) is None  # trained again, and alike
    run.metrics.write_text(text.partition("\n")[2])
    assert "1 rows of metrics.jsonl" in str(before.lost(whole, Answer(0, "", ""), tmp_path))
    assert "1 rows of metrics.jsonl" in str(before.lost(torn, Answer(3, "", ""), tmp_path))
    run.metrics.write_text(text + text.splitlines()[2])
    assert before.lost(whole, Answer(0, "", ""), tmp_path) is None  # half a line
    run.metrics.write_text(text + text.splitlines()[2] + "\n")
    for case in (whole, torn):
        assert "of the steps [1, 2, 3, 3]" in str(before.lost(case, Answer(0, "", ""), tmp_path))
    run.metrics.write_text(text + json.dumps({**rows[0], "step": 5}) + "\n")
    assert "of the steps [1, 2, 3, 5]" in str(before.lost(whole, Answer(0, "", ""), tmp_path))
    assert before.lost(torn, Answer(0, "", ""), tmp_path) is None
    run.events.write_text("")
    assert "events.jsonl" in str(before.lost(whole, Answer(0, "", ""), tmp_path))


def test_what_is_lost_is_found_also_where_the_run_went_well(tmp_path: Path) -> None:
    kept = tmp_path / "work" / "runs" / "config" / "checkpoints" / "step-00000002" / "state.pt"
    kept.parent.mkdir(parents=True)
    kept.write_text("weights")
    before = malformed._tree(tmp_path)
    kept.unlink()
    case = bad_inputs.Case("x", "worker", ["config.yaml"])
    assert "lost" in str(malformed._files(case, Answer(0, "", ""), before, tmp_path))


def test_the_worker_must_say_one_line(tmp_path: Path) -> None:
    outcome = tmp_path / "rank-0.outcome.json"
    case = bad_inputs.Case("x", "worker", ["config.yaml"], codes=(4,), said="sample 7")
    outcome.write_text(json.dumps({"error": "sample 7 cannot be read"}))
    assert malformed._judged(case, Answer(4, "", ""), tmp_path, told_by_launcher=False) is None
    outcome.write_text(json.dumps({"error": "sample 7 cannot be read\nbecause"}))
    assert "not one line" in str(malformed._judged(case, Answer(4, "", ""), tmp_path, told_by_launcher=False))


def test_every_kind_of_damage_changes_a_file(tmp_path: Path) -> None:
    for number, how in enumerate(("flip", "cut", "zeros", "empty", "nonsense", "more", "gone")):
        path = tmp_path / how
        path.write_bytes(b"some bytes that are no zeros" * 9)
        malformed._damage(path, how, random.Random(number))
        assert not path.exists() or path.read_bytes() != b"some bytes that are no zeros" * 9
