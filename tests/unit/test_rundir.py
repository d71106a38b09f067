"""Files of a run appear whole, rows survive a torn end, and one process tree at a time may work in a folder."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainer.errors import RunFolderError
from trainer.rundir import RunDir, RunLock, append_jsonl, make_private, private, read_jsonl, write_atomic

ROOT = Path(__file__).parents[2]


def test_a_torn_last_row_is_skipped_and_a_missing_file_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert list(read_jsonl(path)) == []
    append_jsonl(path, {"step": 1})
    append_jsonl(path, {"step": 2})
    with path.open("ab") as file:
        file.write(b'{"step": 3')
    assert [row["step"] for row in read_jsonl(path)] == [1, 2]


def test_a_row_after_a_torn_one_stands_in_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, {"step": 1})
    with path.open("ab") as file:
        file.write(b'{"step": 2')
    append_jsonl(path, {"step": 3})
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2\n{"step": 3}\n'
    assert [row["step"] for row in read_jsonl(path)] == [1, 3]


def test_lines_that_are_no_rows_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\n{"step": 1}\n\x00\x00\x00\n\xff\n[1]\n7\n{"step": 2}\n')
    assert [row["step"] for row in read_jsonl(path)] == [1, 2]


def test_a_row_that_is_written_in_part_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = (
        "import resource, sys; from pathlib import Path; from trainer.rundir import append_jsonl;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20)); append_jsonl(Path(sys.argv[1]), {'step': 'x' * 100})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    assert "in part only" in done.stderr
    assert path.stat().st_size == 20
    append_jsonl(path, {"step": 1})
    assert list(read_jsonl(path)) == [{"step": 1}]


@pytest.mark.parametrize("strange", ["thesis.txt", "events.jsonl", "checkpoints/step-00000001"])
def test_a_folder_with_something_else_in_it_does_not_become_a_run(tmp_path: Path, strange: str) -> None:
    path = tmp_path / "one" / strange
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(RunFolderError, match=r"one: a folder with something else in it .* choose another run.name") as raised:
        RunDir(tmp_path / "one").create()
    assert "\n" not in str(raised.value)
    assert [p for p in (tmp_path / "one").rglob("*") if p.is_file()] == [path]


def test_a_folder_that_was_half_created_becomes_a_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    RunLock(run.lock).release()
    (run.path / ".config.yaml.17.partial").write_text("seed:")
    run.create()
    run.config.write_text("seed: 1")
    run.event("created")
    run.create()


def test_an_atomic_write_replaces_the_whole_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "value"
    write_atomic(path, b"a long first version")
    write_atomic(path, b"short")
    assert path.read_bytes() == b"short"
    assert [p.name for p in tmp_path.iterdir()] == ["value"]


def test_what_kills_have_left_of_files_is_cleared_away_and_nothing_else_is(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    run.attempt_logs(3).mkdir()
    halves = [run.path / ".config.yaml.17.partial", run.path / ".metrics.jsonl.18.partial", run.checkpoints / ".last.json.17.partial"]
    halves += [run.heartbeats / ".rank-0.json.1.partial", run.attempt_logs(3) / ".rank-0.outcome.json.9.partial"]
    for half in halves[1:]:
        half.write_text("{")
    (tmp_path / "other").write_text("mine")
    halves[0].symlink_to(tmp_path / "other")
    kept = [run.config, run.metrics, run.checkpoints / "last.json", run.path / "my.partial", run.path / ".hidden"]
    for path in kept:
        path.write_text("kept")
    (run.checkpoints / ".partial-step-00000001").mkdir()  # the next write clears it away
    (run.checkpoints / ".a.partial").mkdir()
    run.clear_partials()
    assert not any(os.path.lexists(half) for half in halves)
    assert all(path.read_text() == "kept" for path in kept)
    assert (tmp_path / "other").read_text() == "mine"
    assert {p.name for p in run.checkpoints.iterdir()} == {"last.json", ".partial-step-00000001", ".a.partial"}


def test_a_process_that_is_killed_in_a_write_leaves_a_half_that_is_cleared_away(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    code = (
        "import os, signal, sys; from pathlib import Path; from trainer.rundir import write_atomic;"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL); write_atomic(Path(sys.argv[1]), b'x')"
    )
    subprocess.run([sys.executable, "-c", code, str(run.checkpoints / "last.json")], cwd=ROOT)
    assert [path.suffix for path in run.checkpoints.iterdir()] == [".partial"]
    run.clear_partials()
    assert list(run.checkpoints.iterdir()) == []


def test_a_run_folder_is_its_owners_alone(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "runs" / "one")
    run.create()
    run.event("created")
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(run.events.stat().st_mode) == 0o600


def test_attempts_are_numbered_by_the_folders_that_are_there(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    assert run.next_attempt() == 0
    run.attempt_logs(0).mkdir()
    run.attempt_logs(11).mkdir()
    assert run.next_attempt() == 12


def test_a_run_is_finished_when_its_newest_event_says_so(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "one")
    run.create()
    assert not run.finished()
    run.event("finished")
    assert run.finished()
    run.event("resumed")
    assert not run.finished()


def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(other)
    with pytest.raises(OSError, match="symbolic link"):
        append_jsonl(link, {"step": 1})
    with pytest.raises(OSError, match="symbolic link"):
        private(link, os.O_RDWR | os.O_CREAT)
    write_atomic(link, b"ours")  # takes the link's place
    assert (other.read_text(), link.read_text(), link.is_symlink()) == ("mine", "ours", False)


def test_a_partial_file_that_lies_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("mine")
    (tmp_path / f".value.{os.getpid()}.partial").symlink_to(tmp_path / "other")
    write_atomic(tmp_path / "value", b"ours")
    assert (tmp_path / "other").read_text() == "mine"
    assert (tmp_path / "value").read_text() == "ours"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "value"]


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_atomic(tmp_path / "value", b"x")
        append_jsonl(tmp_path / "rows.jsonl", {"step": 1})
        make_private(tmp_path / "folder")
    finally:
        os.umask(before)
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {"value": 0o600, "rows.jsonl": 0o600, "folder": 0o700}


def test_writers_on_several_machines_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_jsonl(path, {"step": 1})
    with open(path, "ab") as other:  # as another machine's writer, which has found the file's end and not written yet
        fcntl.flock(other, fcntl.LOCK_EX)
        writing = threading.Thread(target=append_jsonl, args=(path, {"step": 3}))
        writing.start()
        time.sleep(0.3)
        assert [row["step"] for row in read_jsonl(path)] == [1]
        other.write(b'{"step": 2}\n')
        other.flush()
        fcntl.flock(other, fcntl.LOCK_UN)
        writing.join()
    assert [row["step"] for row in read_jsonl(path)] == [1, 2, 3]


def test_a_writer_that_is_stopped_holds_up_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.files.TURN_WITHIN_S", 0.1)
    path = tmp_path / "rows.jsonl"
    with open(path, "ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        append_jsonl(path, {"step": 1})
    assert [row["step"] for row in read_jsonl(path)] == [1]


def test_a_run_that_is_not_there_is_asked_for_by_a_name_that_is(tmp_path: Path) -> None:
    for name in ("flowers", "stones"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("")
    with pytest.raises(RunFolderError, match=rf"^{tmp_path}/flower: no run here \(did you mean {tmp_path}/flowers\?\)$"):
        RunDir(tmp_path / "flower").must_exist()
    with pytest.raises(RunFolderError, match=r"^runs/else: no run here \(it has no config.yaml\)$"):
        RunDir(tmp_path / "else").must_exist("runs/else")
    RunDir(tmp_path / "stones").must_exist()


def test_a_run_that_is_called_by_its_name_or_its_configs_is_asked_for_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "flowers").mkdir(parents=True)
    (tmp_path / "runs" / "flowers" / "config.yaml").write_text("")
    for mistaken in ("flowers", "flowers.yaml", "configs/flowers.yaml", "flower"):
        with pytest.raises(RunFolderError, match=rf"^{mistaken}: no run here \(did you mean runs/flowers\?\)$"):
            RunDir(tmp_path / mistaken).must_exist(mistaken)
    with pytest.raises(RunFolderError, match=r"^stones.yaml: no run here \(it has no config.yaml\)$"):
        RunDir(tmp_path / "stones.yaml").must_exist("stones.yaml")
